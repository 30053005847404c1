"""What a source hands to the writer, and where it puts what it finds wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import InputRefused, UsageError
from madclip_runtime.window import Bools

__all__ = ["Bools", "Findings", "Floats", "Pixels", "Plan", "Planned", "need"]

Floats = npt.NDArray[np.floating]
_LONGEST_LIST = 4800
"""Characters of one refusal; a terminal line longer than that is cut by the error itself."""


@dataclass(frozen=True)
class Pixels:
    """One image to write. image: uint8 [H, W] grey or [H, W, 3] RGB, 0–255. mask: bool [H, W], None where unknown."""

    image: npt.NDArray[np.uint8]
    mask: Bools | None


@dataclass(frozen=True)
class Planned:
    """One sample, not read yet.

    patient: groups what must stay in one split; it is never written. source: goes into the manifest.
    split: "valid" or "test" where it is fixed. position: slice position in its body or series, 0–1, where known.
    """

    abnormal: bool
    patient: str
    source: str
    load: Callable[[], Pixels]
    split: str | None = None
    position: float | None = None


@dataclass(frozen=True)
class Plan:
    """All samples of one set, in the order they are numbered, and the options that chose them (for card.json)."""

    kind: str
    samples: tuple[Planned, ...]
    options: dict[str, object]


@dataclass
class Findings:
    """Faults refuse the whole set, all at once; notes are said and kept in card.json."""

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fault(self, what: str, why: str, do: str = "") -> None:
        """Remember one fault, in the words of an InputRefused."""
        self.faults.append(InputRefused(what, why, do).line())

    @contextmanager
    def catching(self) -> Iterator[None]:
        """An InputRefused inside becomes one more fault, and the work goes on."""
        try:
            yield
        except InputRefused as error:
            self.faults.append(error.line())

    def refuse_if_any(self, what: str) -> None:
        """Raises: InputRefused listing every fault (past some 4,800 characters: how many more there are)."""
        if not self.faults:
            return
        listed: list[str] = []
        room = _LONGEST_LIST
        for line in self.faults:
            room -= len(line) + 2
            if room < 0 and listed:
                break
            listed.append(line)
        more = len(self.faults) - len(listed)
        text = "; ".join(listed) + (f"; and {more} more" if more else "")
        count = f"{len(self.faults)} fault" + ("s" if len(self.faults) > 1 else "")
        raise InputRefused(f"{what}, {count}", text, "nothing was written")


def need(library: str, command: str) -> None:
    """Raises: UsageError with the pip line where a library of the [prepare] extra is missing."""
    try:
        __import__(library)
    except ImportError:
        raise UsageError(command, f"{library} is not installed", 'pip install "madclip[prepare]"') from None
