"""Every refusal in madclip, as one tree.

    MadclipError               exit 6  (never raised itself: something we did not foresee)
    ├── UsageError             exit 2  the command was called in a way it can't act on
    ├── InputRefused           exit 3  an image or a data folder can't be used
    ├── BundleRefused          exit 4  a bundle, or a checkpoint, can't be trusted or read
    ├── EngineRefused          exit 5  the engine that was asked for isn't there or isn't active
    ├── OutputNotWritten       exit 7  a result could not be written whole
    ├── PeerRefused            exit 8  a neighbour on the network isn't there, or said no
    └── RequestRefused         (ends a request to the service, never a command)

An error says three things: what was refused, why, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "EXIT_INTERRUPTED",
    "EXIT_OK",
    "BundleRefused",
    "EngineRefused",
    "InputRefused",
    "MadclipError",
    "OutputNotWritten",
    "PeerRefused",
    "RequestRefused",
    "UsageError",
    "one_line",
]

EXIT_OK = 0
EXIT_INTERRUPTED = 130
_LONGEST_PART = 5000
"""Characters; the longest path a system takes still fits."""


class MadclipError(Exception):
    """The root of all refusals; `exit_code` is what a command leaves with."""

    exit_code = 6

    def __init__(self, what: str, why: str, do: str = "") -> None:
        """what: the thing refused. why: the reason, one clause. do: the next step, may be empty."""
        self.what = one_line(what)
        self.why = one_line(why)
        self.do = one_line(do)
        super().__init__(self.line())

    def line(self) -> str:
        """One line for a person: `what: why (do)`."""
        text = f"{self.what}: {self.why}"
        return f"{text} ({self.do})" if self.do else text


class UsageError(MadclipError):
    """The command was called in a way it can't act on."""

    exit_code = 2


class InputRefused(MadclipError):
    """An image, or a folder of images, can't be used."""

    exit_code = 3


class BundleRefused(MadclipError):
    """A bundle or a checkpoint is missing, damaged, of another format, or not what it says it is."""

    exit_code = 4


class EngineRefused(MadclipError):
    """The engine that was asked for is not installed, not active, or returned something impossible."""

    exit_code = 5


class OutputNotWritten(MadclipError):
    """A result could not be written whole, so nothing of it was left."""

    exit_code = 7


class PeerRefused(MadclipError):
    """A neighbour on the network (Orthanc, a PACS) can't be reached, doesn't know us, or answers with a fault."""

    exit_code = 8


class RequestRefused(MadclipError):
    """A request to the service that is not answered as asked; `kind` says why in one word, for metrics."""

    def __init__(self, kind: str, what: str, why: str, do: str = "") -> None:
        """kind: lower case and "-", "queue-full" say. The rest as for every refusal."""
        self.kind = kind
        super().__init__(what, why, do)


def one_line(text: str) -> str:
    """Names come from strangers: no control character, and no endless text, may reach a terminal or a log."""
    return "".join(c if c.isprintable() else " " for c in text[:_LONGEST_PART]).strip()
