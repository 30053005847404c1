"""What a graph consists of and where its time goes: nodes, FLOPs and milliseconds, by stage and by kind of node.

    python benchmarks/graph/nodes.py --plain-of x.pt --weights w.safetensors x-fp32.madclip x-int8.madclip

Each graph (bundle or .onnx) is run by ONNX Runtime on the CPU with its own profiler, one image at a time; stages are
the names that `madclip export` leaves in the graph. `--plain-of` adds what the exporter makes of the two-channel module
as it stands. Times are medians over the repeats; the profiler itself costs a few per cent.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

_STAGE = "stage."
_REST = "the rest"
_PRODUCTS = {
    "MatMul",
    "FusedMatMul",
    "Gemm",
    "FusedGemm",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
}
_CONVOLUTIONS = {"Conv", "FusedConv"}
_ATTENTIONS = {"MultiHeadAttention", "Attention"}


@dataclass(frozen=True)
class Event:
    """One node of one run. gflop: two for each multiply-add of its products, 0 for all other nodes."""

    kind: str
    stage: str
    gflop: float
    ms: float


@dataclass(frozen=True)
class Profile:
    """nodes: in the file; run: after ONNX Runtime's own fusions. events: of the median run."""

    nodes: int
    run: int
    megabytes: float
    total_ms: float
    events: tuple[Event, ...]

    @property
    def gflop(self) -> float:
        """Of one image."""
        return sum(event.gflop for event in self.events)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", nargs="*", type=Path, help="bundles or .onnx files")
    parser.add_argument("--plain-of", type=Path, help="a checkpoint, to export in the two-channel form")
    parser.add_argument("--weights", help="of the checkpoint's encoder")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subjects = {path.name: path / "model.onnx" if path.is_dir() else path for path in args.graphs}
        if args.plain_of:
            subjects = {"plain export": _plain(args.plain_of, args.weights, Path(folder)), **subjects}
        profiles = {name: _profile(path, Path(folder), args.repeats, args.threads) for name, path in subjects.items()}
    print("\n".join(_tables(profiles)))


def _plain(ckpt: Path, weights: str | None, folder: Path) -> Path:
    sys.path.insert(0, str(Path(__file__).parent.parent / "peers"))
    from forms import TwoChannels, write_plain

    from madclip.checkpoint import Checkpoint

    checkpoint = Checkpoint.load(ckpt)
    return write_plain(TwoChannels(checkpoint, checkpoint.model(weights).encoder).eval(), folder / "plain.onnx")


def _profile(path: Path, folder: Path, repeats: int, threads: int) -> Profile:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[1]
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    for _ in range(repeats + 2):
        session.run(None, {"image": image})
    events = json.loads(Path(session.end_profiling()).read_text())
    stages, file = _stages(folder / "optimised.onnx"), onnx.load(path, load_external_data=False)
    runs = _runs(events, stages)[2:]  # the first ones warm up
    median = sorted(runs, key=lambda run: sum(event.ms for event in run))[len(runs) // 2]
    return Profile(
        nodes=len(file.graph.node),
        run=len(median),
        megabytes=sum(part.stat().st_size for part in path.parent.glob(path.name + "*")) / 1e6,
        total_ms=statistics.median(sum(event.ms for event in run) for run in runs),
        events=tuple(median),
    )


def _stages(optimised: Path) -> dict[str, str]:
    """Node name → the stage that its value, or the next stage's value after it, carries."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    for node in onnx.load(optimised, load_external_data=False).graph.node:
        waiting.append(node.name)
        named = [output for output in node.output if output.startswith(_STAGE)]
        if named:
            found |= dict.fromkeys(waiting, named[0].removeprefix(_STAGE))
            waiting = []
    return found | dict.fromkeys(waiting, "map and score")


def _runs(events: list[dict[str, Any]], stages: dict[str, str]) -> list[list[Event]]:
    runs: list[list[Event]] = [[]]
    for event in sorted(events, key=lambda e: e["ts"]):
        if event.get("name") == "model_run":
            runs.append([])
        elif event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            args, name = event["args"], event["name"].removesuffix("_kernel_time")
            kind = args["op_name"]
            runs[-1].append(Event(kind, _group(stages.get(name, _REST)), _gflop(kind, args), event["dur"] / 1e3))
    return [run for run in runs if run]


def _group(stage: str) -> str:
    """`block.03.attention` → `attention`; `brain.level.2.seg` → `adapters`."""
    if found := re.fullmatch(r"block\.\d+\.(\w+)", stage):
        return f"blocks: {found[1]}"
    return "adapters" if ".level." in stage else stage


def _gflop(kind: str, args: dict[str, Any]) -> float:
    shapes = [next(iter(entry.values())) for entry in args["input_type_shape"]]
    out = next(iter(args["output_type_shape"][0].values()))
    if kind in _PRODUCTS:
        return 2.0 * math.prod(out) * math.prod(shapes[0]) / math.prod(out[:-1]) / 1e9
    if kind in _CONVOLUTIONS:
        return 2.0 * math.prod(out) * math.prod(shapes[1][1:]) / 1e9
    if kind in _ATTENTIONS:
        return 4.0 * math.prod(out) * shapes[1][1] / 1e9
    return 0.0


def _tables(profiles: dict[str, Profile]) -> list[str]:
    lines = ["| graph | nodes in the file | nodes run | GFLOP | MB | ms |", "|---|---|---|---|---|---|"]
    for name, one in profiles.items():
        lines.append(
            f"| {name} | {one.nodes} | {one.run} | {one.gflop:.2f} | {one.megabytes:.1f} | {one.total_ms:.1f} |"
        )
    for name, one in profiles.items():
        lines += [
            "",
            f"{name}: by stage",
            "",
            "| stage | nodes | GFLOP | ms | share | GFLOP/s |",
            "|---|---|---|---|---|---|",
        ]
        lines += _rows(one, "stage")
        lines += [
            "",
            f"{name}: by kind",
            "",
            "| kind | nodes | GFLOP | ms | share | GFLOP/s |",
            "|---|---|---|---|---|---|",
        ]
        lines += _rows(one, "kind")[:10]
    return lines


def _rows(profile: Profile, key: str) -> list[str]:
    count: Counter[str] = Counter(getattr(event, key) for event in profile.events)
    work: dict[str, float] = defaultdict(float)
    time: dict[str, float] = defaultdict(float)
    for event in profile.events:
        work[getattr(event, key)] += event.gflop
        time[getattr(event, key)] += event.ms
    total = sum(time.values())
    return [
        f"| {name} | {count[name]} | {work[name]:.2f} | {time[name]:.2f} | {100 * time[name] / total:.1f} % | "
        f"{1e3 * work[name] / time[name]:.0f} |"
        for name in sorted(time, key=lambda name: -time[name])
    ]


if __name__ == "__main__":
    main()
