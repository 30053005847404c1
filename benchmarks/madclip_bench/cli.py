"""`madclip-bench`: a bundle timed on this machine. Imports nothing heavy until there is work to do."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from madclip_bench import __version__
from madclip_runtime.errors import EXIT_INTERRUPTED, EXIT_OK, InputRefused, MadclipError, OutputNotWritten, UsageError

if TYPE_CHECKING:
    from madclip_bench.report import Report

__all__ = ["main"]

_EPILOG = """exit codes: 0 ok · 2 usage · 3 an image was refused (the others were timed, or none was left) ·
4 bundle refused · 5 engine refused · 6 internal · 7 report not written · 130 interrupted.
Research use, not a medical device."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn every refusal into one line on stderr and its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _run(arguments)
    except MadclipError as error:
        _talk(error.line())
        return error.exit_code
    except KeyboardInterrupt:
        _talk("interrupted: no report was written")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our stdout has left; the report itself is on disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except Exception as error:  # a fault of ours: still one line and a code of its own
        _talk(f"internal fault, please report it: {type(error).__name__}: {error}")
        return MadclipError.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="madclip-bench", description="Latency reports that others can re-run.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"madclip-bench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="time a bundle on this machine, one image at a time",
        description="Time a bundle, one image at a time (MLPerf-style single stream): ≥ 600 s and ≥ 662 queries.",
        epilog=_EPILOG,
    )
    run.add_argument("--bundle", metavar="X.madclip", help="default: $MADCLIP_BUNDLE, else the only one here")
    run.add_argument("--images", metavar="DIR", help="images to time with (default: 64 synthetic ones)")
    run.add_argument("--quick", action="store_true", help="662 queries or 30 s, ≥ 64 queries; not for procurement")
    run.add_argument("--engine", default="cpu", metavar="NAME", help="what runs the bundle (default: %(default)s)")
    run.add_argument("--seed", type=int, default=0, help="of the query order and synthetic images (default: 0)")
    run.add_argument("--json", required=True, metavar="OUT.json", help="where the report goes, raw latencies included")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    out = Path(arguments.json)
    _check_early(arguments, out)
    from madclip_bench.bench import time_bundle
    from madclip_bench.run import Rules
    from madclip_runtime.bundle import find_bundle
    from madclip_runtime.files import write_whole

    rules = Rules.fast(arguments.seed) if arguments.quick else Rules.full(arguments.seed)
    folder = None if arguments.images is None else Path(arguments.images)
    with _Progress(rules.duration_s) as progress:
        report = time_bundle(find_bundle(arguments.bundle), folder, rules, engine=arguments.engine, tick=progress)
    write_whole(out, report.to_json())
    _print(report)
    refused = report.setting.images.refused
    for image in refused:
        _talk(f"refused {image.file}: {image.why}")
    return InputRefused.exit_code if refused else EXIT_OK


def _check_early(arguments: argparse.Namespace, out: Path) -> None:
    """What would otherwise be found out after ten minutes."""
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}", "a seed is not negative", "give 0 or more")
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise OutputNotWritten(str(out), "its folder is missing or can't be written to", "choose another --json")
    if out.is_dir():
        raise OutputNotWritten(str(out), "a folder of that name is there", "choose another --json")


class _Progress:
    """One line on a terminal's stderr, at most once a second; nothing elsewhere."""

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
        self._shown_s = -1.0 if sys.stderr.isatty() else float("inf")
        self._written = False

    def __enter__(self) -> _Progress:
        return self

    def __call__(self, queries: int, elapsed_s: float) -> None:
        if elapsed_s - self._shown_s >= 1.0:
            self._shown_s, self._written = elapsed_s, True
            sys.stderr.write(f"\rmadclip-bench: {queries} queries, {elapsed_s:.0f} of {self._duration_s:.0f} s ")
            sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self._written:
            sys.stderr.write("\n")


def _print(report: Report) -> None:
    """The human lines, then the whole report but its samples as one line of ASCII, which any pipe can carry."""
    from madclip_bench.text import lines

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without "≤" must not cost the JSON line
    for line in lines(report):
        print(line)
    print(json.dumps(report.summary(), allow_nan=False), flush=True)


def _talk(line: str) -> None:
    print(f"madclip-bench: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
