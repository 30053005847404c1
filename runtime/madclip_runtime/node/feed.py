"""What is new in Orthanc: its change feed, and now and then a look at all studies.

The feed alone would lose studies: Orthanc forgets, when it stops, which of them it had not yet called stable. What this
module does not know: what is done with a study.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from madclip_runtime.node.ledger import Ledger
from madclip_runtime.node.orthanc import Orthanc

__all__ = ["Feed"]

_PAGE = 100
_STABLE = "StableStudy"
_SOON_S = 30.0
"""After a sweep that the queue cut short."""


class Feed:
    """Fills the ledger with studies to look at, as long as it has room."""

    def __init__(
        self,
        orthanc: Orthanc,
        ledger: Ledger,
        *,
        queue: int,
        sweep_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """queue: with so much open work nothing new is taken. sweep_s: between two looks at everything."""
        self._orthanc, self._ledger, self._queue, self._sweep_s, self._clock = orthanc, ledger, queue, sweep_s, clock
        self._next_sweep = 0.0

    @property
    def has_room(self) -> bool:
        """Whether something new may be taken."""
        return self._ledger.open_work() < self._queue

    def look(self) -> None:
        """Take what is new. Raises: Unreachable."""
        if self.has_room and self._clock() >= self._next_sweep:
            self._sweep()
        while self.has_room and not self._read():
            pass

    def distrust(self) -> None:
        """Orthanc was away: look at everything the next time."""
        self._next_sweep = 0.0

    def _read(self) -> bool:
        """One page; whether it was the last."""
        room = max(1, self._queue - self._ledger.open_work())
        found = self._orthanc.changes(self._ledger.cursor, min(_PAGE, room))
        changes, last = found.get("Changes", []), int(found.get("Last", 0))
        studies = [str(one["ID"]) for one in changes if one.get("ChangeType") == _STABLE]
        if last > self._ledger.cursor:
            self._ledger.read_to(last, list(dict.fromkeys(studies)))
        return bool(found.get("Done", True)) or not changes

    def _sweep(self) -> None:
        if self._orthanc.last_change() < self._ledger.cursor:  # another Orthanc, or its index was made anew
            self._ledger.read_to(0, [])
        for study in self._orthanc.studies():
            if not self.has_room:
                self._next_sweep = self._clock() + min(_SOON_S, self._sweep_s)
                return
            if study.get("IsStable"):
                self._ledger.seen(str(study["ID"]), str(study.get("LastUpdate", "")))
        self._next_sweep = self._clock() + self._sweep_s
