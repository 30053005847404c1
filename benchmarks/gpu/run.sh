#!/usr/bin/env bash
# The peers' table on a GPU, in one command: an environment of its own, ViT-L/14@240 with random weights exported in every
# precision, and PyTorch (eager, fused attention, torch.compile; float32 and float16), ONNX Runtime CUDA and TensorRT-RTX
# run in turns, each compared with eager float32 on every image. Leaves one JSON.
#
#   benchmarks/gpu/run.sh [OUT.json] [more options of benchmarks/peers/run.py]
#
# Without an index: WHEELS=FOLDER (made by `benchmarks/gpu/run.sh --pack FOLDER` on a machine with one, same Python and
# processor). VENV=FOLDER: where the environment is made or found (default .venv-gpu).
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${VENV:-.venv-gpu}
packages=("madclip-runtime[gpu] @ file://$PWD/runtime" "madclip @ file://$PWD" "madclip-export @ file://$PWD/export"
  "madclip-bench[nvml] @ file://$PWD/benchmarks")
rtx=(onnxruntime-ep-nv-tensorrt-rtx-cu13)

if [ "${1:-}" = --pack ]; then
  python3 -m pip wheel --quiet --wheel-dir "$2" "${packages[@]}" "${rtx[@]}" hatchling
  exit
fi

if [ ! -x "$venv/bin/madclip" ]; then
  python3 -m venv "$venv"
  from=(${WHEELS:+--no-index --find-links "$WHEELS"})
  "$venv/bin/python" -m pip install --quiet "${from[@]}" "${packages[@]}"
  # No part of the graph needs it: where it can't be had, the table names TensorRT-RTX as skipped and why.
  "$venv/bin/python" -m pip install --quiet "${from[@]}" "${rtx[@]}" || echo "no TensorRT-RTX plug-in" >&2
fi

out=benchmarks/results/peers-vitl14-240-gpu.json
case "${1:-}" in "" | --*) ;; *) out=$1 && shift ;; esac
if ! "$venv/bin/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "torch $("$venv/bin/python" -c 'import torch; print(torch.__version__)') sees no GPU: nothing was run" >&2
  exit 5
fi
"$venv/bin/python" benchmarks/peers/run.py --device cuda --rounds 51 --out "$out" "$@"
