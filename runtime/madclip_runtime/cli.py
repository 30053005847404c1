"""`madclip-run`: images in, one line each out. Imports nothing heavy until there is work to do."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from madclip_runtime import __version__
from madclip_runtime.errors import EXIT_INTERRUPTED, EXIT_OK, InputRefused, MadclipError, one_line

if TYPE_CHECKING:
    from madclip_runtime.detector import Detector
    from madclip_runtime.inputs import Job
    from madclip_runtime.result import Result

__all__ = ["main"]

_EPILOG = """exit codes: 0 ok · 2 usage · 3 an input was refused (the others were done) · 4 bundle refused ·
5 engine refused · 6 internal · 7 output not written · 130 interrupted. Research use, not a medical device."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn every refusal into one line on stderr and its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except MadclipError as error:
        _talk(error.line())
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our stdout went away; nothing is left to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except Exception as error:  # a fault of ours: still one line and a code of its own
        _talk(f"internal fault, please report it: {type(error).__name__}: {error}")
        return MadclipError.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="madclip-run",
        description="Score images with a madclip bundle: score, decision and a heat-map overlay for each.",
        epilog=_EPILOG,
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE|DIR", help="image files, or folders of them")
    parser.add_argument("--bundle", metavar="X.madclip", help="default: $MADCLIP_BUNDLE, else the only one here")
    parser.add_argument("--head", metavar="NAME", help="which of a bundle's heads, where it has several")
    parser.add_argument("--out", metavar="DIR", default="madclip-out", help="where overlays go (default: %(default)s)")
    parser.add_argument("--threshold", type=float, metavar="T", help="decide at T instead of the bundle's own point")
    parser.add_argument("--json", action="store_true", help="one JSON line a file on stdout")
    parser.add_argument("--version", action="version", version=f"madclip-run {__version__}")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from madclip_runtime.bundle import find_bundle
    from madclip_runtime.detector import Detector
    from madclip_runtime.files import make_folder
    from madclip_runtime.inputs import find_each

    out = Path(arguments.out)
    jobs, skipped = find_each(arguments.images, out)
    detector = Detector.load(find_bundle(arguments.bundle), head=arguments.head, threshold=arguments.threshold)
    make_folder(out)
    _say_what_runs(detector, skipped)
    code = EXIT_OK
    for job in jobs:
        try:
            _report(_detect(detector, job), job, as_json=arguments.json)
        except InputRefused as error:
            code = error.exit_code
            _report_refusal(job, error, as_json=arguments.json)
    return code


def _say_what_runs(detector: Detector, skipped: int) -> None:
    info, manifest = detector.engine.info, detector.bundle.manifest
    for line in manifest.notices:
        _talk(line)
    _talk(f"bundle {manifest.model_id}, {info.precision}, on {info.name} ({info.library})")
    if len(manifest.heads) > 1:
        _talk(f"head {detector.head}")
    if detector.threshold is None:
        _talk(f"uncalibrated, scores only: {manifest.heads[detector.head].calibration.reason}")
    if skipped:
        _talk(f"{skipped} file(s) in the folder(s) have no image ending and were left out")


def _detect(detector: Detector, job: Job) -> Result:
    from madclip_runtime.files import make_folder, write_whole
    from madclip_runtime.overlay import overlay_png

    if job.refusal is not None:
        raise job.refusal
    result = detector(job.source, name=job.name)
    make_folder(job.overlay.parent)
    write_whole(job.overlay, overlay_png(result))
    return result


def _report(result: Result, job: Job, *, as_json: bool) -> None:
    if as_json:
        _emit(json.dumps({**result.to_json(), "overlay": str(job.overlay)}, allow_nan=False))
        return
    at = "" if result.threshold is None else f" (threshold {result.threshold:.4f}, {result.operating_point})"
    notes = "".join(f"; {note}" for note in result.notes)
    _emit(one_line(f"{result.file}: score {result.score:.4f} {result.decision}{at} -> {job.overlay}{notes}"))


def _report_refusal(job: Job, error: MadclipError, *, as_json: bool) -> None:
    if as_json:
        refusal = {"name": type(error).__name__, "why": error.why, "do": error.do}
        _emit(json.dumps({"format": "madclip-result/1", "file": job.name, "refused": refusal}))
    _talk(f"refused {error.line()}")


def _emit(line: str) -> None:
    """One line of data; a name this terminal can't show is escaped, never a reason to stop."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _talk(line: str) -> None:
    print(f"madclip-run: {one_line(line)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
