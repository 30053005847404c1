"""What every command of the runtime does alike: a refusal is one line and an exit code, stdout is data, stderr talk."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from madclip_runtime.errors import EXIT_INTERRUPTED, EXIT_OK, MadclipError, one_line

__all__ = ["emit", "guarded", "stop_on_sigterm", "talker"]


def guarded(work: Callable[[], int], talk: Callable[[str], None]) -> int:
    """The exit code of `work`, or that of the refusal, the interruption or the fault it ended with."""
    try:
        return work()
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


def emit(line: str) -> None:
    """One line of data; a name this terminal can't show is escaped, never a reason to stop."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def talker(program: str) -> Callable[[str], None]:
    """A function that says one line for a person, on stderr."""

    def talk(line: str) -> None:
        print(f"{program}: {one_line(line)}", file=sys.stderr, flush=True)

    return talk


def stop_on_sigterm() -> None:
    """A service is stopped as a person would stop it: what is being written is finished, nothing is left in part."""
    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
