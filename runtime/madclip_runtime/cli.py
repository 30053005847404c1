"""`madclip-run`: images in, one line each out. Imports nothing heavy until there is work to do."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from madclip_runtime.errors import EXIT_INTERRUPTED, EXIT_OK, MadclipError, one_line
from madclip_runtime.options import make_parser

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn every refusal into one line on stderr and its exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    inputs = arguments.images or arguments.list or arguments.watch
    instead = arguments.selftest or arguments.doctor or arguments.serve
    if inputs and instead:
        parser.error("--serve, --selftest and --doctor take no images")
    if not (inputs or instead):
        parser.error("nothing to do: name an image or a folder, or --list, --watch, --serve, --selftest, --doctor")
    try:
        return _run(arguments)
    except MadclipError as error:
        talk(error.line())
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our stdout went away; nothing is left to say to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except Exception as error:  # a fault of ours: still one line and a code of its own
        talk(f"internal fault, please report it: {type(error).__name__}: {error}")
        return MadclipError.exit_code


def _run(arguments: argparse.Namespace) -> int:
    if arguments.doctor:
        from madclip_runtime.doctor import examine

        return examine(arguments, emit)
    if arguments.selftest:
        from madclip_runtime.replay import run_selftest

        return run_selftest(arguments, emit, talk)
    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
        signal.signal(signal.SIGTERM, _interrupt)
    if arguments.serve:
        from madclip_runtime.serve.server import serve

        return serve(arguments, emit, talk)
    from madclip_runtime.run import run_images

    return run_images(arguments, emit, talk)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A service is stopped as a person would stop it: what is being written is finished, nothing is left in part."""
    raise KeyboardInterrupt


def emit(line: str) -> None:
    """One line of data; a name this terminal can't show is escaped, never a reason to stop."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def talk(line: str) -> None:
    """One line for a person, on stderr."""
    print(f"madclip-run: {one_line(line)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
