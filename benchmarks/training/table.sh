#!/usr/bin/env bash
# The table of docs/experiments.md: 16 shots by the authors' lists, three seeds, six sets, by the commands a user has.
#
#   benchmarks/training/table.sh SHARED OUT [more options of madclip train]
#
# SHARED: a folder with data/, reference/shots/ and weights/. OUT: checkpoints, features and figures; may be gone on with.
set -euo pipefail
shared=$1 out=$2
shift 2
seeds=(111 222 333)
for index in 0 1 2; do
  for set in BrainLGG BrainBraTS BreastBUSI RetinaOCTDL ChestNIH LungLC25000; do
    ckpt=$out/$set-s${seeds[$index]}.pt
    mkdir -p "$out/features"
    [ -f "$ckpt" ] || madclip train --data "$shared/data/${set}_AD" --out "$ckpt" --epochs 20 \
      --shot-list "$shared/reference/shots/$set-16.txt" --list-index $index --seed "${seeds[$index]}" \
      --encoder "$shared/weights/deit-tiny-clip.json" --weights "$shared/weights/deit-tiny-clip.safetensors" \
      --feature-cache "$out/features" "$@"
    [ -f "$out/$set-s${seeds[$index]}.json" ] || madclip evaluate --ckpt "$ckpt" --data "$shared/data/${set}_AD" \
      --json "$out/$set-s${seeds[$index]}.json"
  done
done
