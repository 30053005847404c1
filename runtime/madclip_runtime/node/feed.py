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
        self._swept: float | None = None

    @property
    def has_room(self) -> bool:
        """Whether something new may be taken."""
        return self._ledger.open_work() < self._queue

    def look(self) -> None:
        """Take what is new. Raises: Unreachable."""
        if self._swept is None or self._clock() - self._swept >= self._sweep_s:
            self._sweep()
        while self.has_room and not self._read():
            pass

    def distrust(self) -> None:
        """Orthanc was away: look at everything the next time."""
        self._swept = None

    def _read(self) -> bool:
        """One page; whether it was the last."""
        found = self._orthanc.changes(self._ledger.cursor, _PAGE)
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
                return  # and again, once there is
            if study.get("IsStable"):
                self._ledger.seen(str(study["ID"]), str(study.get("LastUpdate", "")))
        self._swept = self._clock()
