"""`madclip-bench`: a bundle timed on this machine, reports compared and checked. Imports nothing heavy before there is
work to do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from madclip_bench import __version__
from madclip_runtime.errors import EXIT_INTERRUPTED, EXIT_OK, MadclipError, one_line

__all__ = ["main"]

_EPILOG = """exit codes: 0 ok · 1 the answer is no (verify found an edit, --fail-if holds) · 2 usage ·
3 an image or a report was refused (the other images were timed, or none was left) · 4 bundle refused ·
5 engine refused · 6 internal · 7 report not written · 130 interrupted. Research use, not a medical device."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn every refusal into one line on stderr and its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _dispatch(arguments)
    except MadclipError as error:
        talk(error.line())
        return error.exit_code
    except KeyboardInterrupt:
        talk("interrupted: no report was written")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our stdout has left; the report itself is on disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except Exception as error:  # a fault of ours: still one line and a code of its own
        talk(f"internal fault, please report it: {type(error).__name__}: {error}")
        return MadclipError.exit_code


def talk(line: str) -> None:
    """One line for a person, on stderr."""
    print(f"madclip-bench: {one_line(line)}", file=sys.stderr)


def _dispatch(arguments: argparse.Namespace) -> int:
    if arguments.command == "run":
        from madclip_bench.commands.run import run

        return run(arguments, talk)
    if arguments.command == "compare":
        from madclip_bench.commands.compare import compare

        return compare(arguments, talk)
    from madclip_bench.commands.verify import verify

    return verify(arguments, talk)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="madclip-bench", description="Latency reports that others can re-run.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"madclip-bench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands)
    _add_compare(commands)
    _add_verify(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = commands.add_parser(
        "run",
        help="time a bundle on this machine, and ask it how right it is",
        description="Time a bundle by MLPerf-style scenarios, each at least 600 s; --quick: all in about a minute.",
        epilog=_EPILOG,
    )
    run.add_argument("--bundle", metavar="X.madclip", help="default: $MADCLIP_BUNDLE, else the only one here")
    run.add_argument("--engine", default="cpu", metavar="NAME", help="what runs the bundle (default: %(default)s)")
    run.add_argument("--head", metavar="NAME", help="which of a bundle's heads, where it has several")
    run.add_argument("--images", metavar="DIR", help="images to time with (default: --data's, else 64 synthetic ones)")
    run.add_argument("--data", metavar="X_AD", help="its test split gives the accuracy of the timed engine")
    run.add_argument("--quick", action="store_true", help="a look within about a minute; not for procurement")
    run.add_argument("--scenarios", metavar="LIST", help="beside single: multi,offline,server,scanner (default: all)")
    run.add_argument("--bound-ms", type=float, default=1000.0, metavar="MS", help="server: p99 at most (default: 1000)")
    run.add_argument("--scanner", metavar="SLICES/SECONDS", help="one room's exams (default: 400/240)")
    run.add_argument("--deadline-s", type=float, metavar="S", help="scanner: an exam's, default one period")
    run.add_argument("--seed", type=int, default=0, help="of order, arrivals and synthetic images (default: 0)")
    run.add_argument("--json", metavar="OUT.json", help="the report, raw samples included; only this can be verified")
    _add_pages(run)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    compare = commands.add_parser(
        "compare",
        help="several reports side by side, against the first",
        description="One table and page of several reports. What differs must be named: --across bundle,dataset,rules.",
        epilog=_EPILOG,
    )
    compare.add_argument("reports", nargs="+", metavar="REPORT.json", help="the first is the baseline")
    compare.add_argument(
        "--across", default="", metavar="LIST", help="differences that are meant: bundle,dataset,rules"
    )
    compare.add_argument("--names", metavar="LIST", help="what to call the reports, comma-separated")
    compare.add_argument("--prices", metavar="PRICES.json", help="adds the cost of 1,000 images")
    compare.add_argument("--fail-if", action="append", default=[], metavar="RULE", help='e.g. "p99>+10%%"; repeatable')
    compare.add_argument("--json", metavar="OUT.json", help="the comparison as JSON")
    _add_pages(compare)


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    verify = commands.add_parser(
        "verify",
        help="compute every figure of a report again from its samples",
        description="Finds what was changed in a report after it was made, figure by figure.",
        epilog=_EPILOG,
    )
    verify.add_argument("report", metavar="REPORT.json")
    verify.add_argument("--digest", metavar="HEX", help="the digest that the run printed")
    verify.add_argument("--page", metavar="PAGE.html", help="an HTML page that should be this report's")
    verify.add_argument("--bundle", metavar="X.madclip", help="a bundle that should be the one that was timed")


def _add_pages(command: argparse.ArgumentParser) -> None:
    command.add_argument("--html", metavar="PAGE.html", help="one self-contained page")
    command.add_argument("--markdown", metavar="OUT.md", help="the same as Markdown")
    command.add_argument("--csv", metavar="OUT.csv", help="every figure by its path")


if __name__ == "__main__":
    sys.exit(main())
