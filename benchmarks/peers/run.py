"""The peers' table: every way of running one model, in one run, on one machine. See README.md.

python benchmarks/peers/run.py --out benchmarks/results/peers-vitl14-240.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> int:
    """Build, run the rounds, write one JSON document; stdout's last line is the same."""
    arguments = _parser().parse_args()
    # Before torch is imported: its pool takes its size from here.
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    from measure import measure, table
    from methods import Method, Skipped, Wanted, build_methods
    from model import make_checkpoint

    from madclip_runtime.errors import MadclipError
    from madclip_runtime.files import write_whole

    try:
        checkpoint, encoder = make_checkpoint(arguments.encoder, arguments.weights, arguments.image_score)
        with tempfile.TemporaryDirectory(prefix="madclip-peers-", dir=arguments.work) as folder:
            wanted = Wanted(
                checkpoint=checkpoint,
                encoder=encoder,
                folder=Path(folder),
                device=arguments.device,
                threads=arguments.threads,
                half=arguments.half or arguments.device == "cuda",
                skip=frozenset(arguments.skip.split(",")) - {""},
                export_args=dict(text.split("=", 1) for text in arguments.export_args),
            )
            built: list[Method | Skipped] = []
            for one in build_methods(wanted):
                built.append(one)
                _talk(f"{one.name}: {one.why if isinstance(one, Skipped) else f'ready in {one.prepare_s} s'}")
            methods = [one for one in built if isinstance(one, Method)]
            skipped = {one.name: one.why for one in built if isinstance(one, Skipped)}
            document = measure(methods, wanted, arguments.rounds, say=_talk)
    except MadclipError as error:
        _talk(error.line())
        return error.exit_code
    document |= {"skipped": skipped, "command": _command(), "started_utc": _now()}
    write_whole(Path(arguments.out), (json.dumps(document, indent=2) + "\n").encode())
    sys.stdout.write("\n".join(table(document)) + "\n" + json.dumps(document) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--encoder", default="ViT-L-14-336", help="open_clip name, config.json or nano (default: %(default)s)"
    )
    parser.add_argument("--weights", default="random", help="file, hub tag or random (default)")
    parser.add_argument("--image-score", default="map_max", choices=("map_max", "det"), help="what our graph scores by")
    parser.add_argument("--rounds", type=int, default=9, help="every method once a round, order reversed every other")
    parser.add_argument("--threads", type=int, default=_cores(), help="of every method (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of PyTorch and plain ONNX")
    parser.add_argument("--half", action="store_true", help="PyTorch in float16 too; always so on a GPU")
    parser.add_argument("--skip", default="", help="names to leave out: eager,sdpa,compile,onnx,fp16,…")
    parser.add_argument("--export-args", action="append", default=[], metavar="int8=ARGS", help="for madclip export")
    parser.add_argument("--work", help="folder for bundles while it runs (default: the system's temporary one)")
    parser.add_argument("--out", required=True, help="the JSON")
    return parser


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _command() -> str:
    """As it was typed, without this machine's folders."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(["python benchmarks/peers/run.py", *words])


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _talk(line: Any) -> None:
    sys.stderr.write(f"peers: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
