"""The node at work: what is new, one study, one job, and again; faults of a neighbour are waited out.

What this module does not know: DICOM, and what a job is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from madclip_runtime.node.feed import Feed
from madclip_runtime.node.ledger import Ledger
from madclip_runtime.node.orthanc import Unreachable
from madclip_runtime.node.state import DiskLow
from madclip_runtime.node.worker import Worker

__all__ = ["Loop"]

_LONGEST_WAIT_S = 10.0
Say = Callable[[str], None]


class Loop:
    """emit: takes each audit line. talk: takes lines for a person. sleep: seconds."""

    def __init__(
        self,
        feed: Feed,
        worker: Worker,
        ledger: Ledger,
        *,
        poll_s: float,
        emit: Say,
        talk: Say,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._feed, self._worker, self._ledger, self._poll_s = feed, worker, ledger, poll_s
        self._emit, self._talk, self._sleep = emit, talk, sleep
        self._told = ledger.last_audit
        self._trouble, self._waits = "", 0
        self._was_full = False

    def run(self) -> None:
        """For ever. Raises: EngineRefused, OutputNotWritten, KeyboardInterrupt."""
        while True:
            self.step()

    def step(self) -> None:
        """Look, do one job, rest where there was none."""
        try:
            self._feed.look()
            self._tell_of_room()
            while self._worker.look_at_one():
                pass
            busy = self._worker.do_one()
        except (Unreachable, DiskLow) as error:
            self._wait_out(error)
            return
        finally:
            self._tell_audit()
        if self._trouble:
            self._talk("all is well again")
            self._trouble, self._waits = "", 0
        if not busy:
            self._sleep(self._poll_s)

    def _wait_out(self, error: Unreachable | DiskLow) -> None:
        """Told once, not at each try."""
        if error.line() != self._trouble:
            self._trouble = error.line()
            self._talk(f"waiting: {self._trouble}")
        if isinstance(error, Unreachable):
            self._feed.distrust()
        self._sleep(min(self._poll_s * 2.0**self._waits, _LONGEST_WAIT_S))
        self._waits = min(self._waits + 1, 10)

    def _tell_of_room(self) -> None:
        full = not self._feed.has_room
        if full and not self._was_full:
            self._talk(f"{self._ledger.open_work()} jobs wait: nothing new is taken until there are fewer")
        self._was_full = full

    def _tell_audit(self) -> None:
        for number, line in self._ledger.audit_after(self._told):
            self._told = number
            self._emit(line)
