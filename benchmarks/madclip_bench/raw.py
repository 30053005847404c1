"""Everything a run took, before anything was computed from it. Travels compressed inside the report."""

from __future__ import annotations

from dataclasses import dataclass

from madclip_bench.accuracy import Evaluated
from madclip_bench.delivery import Delivery
from madclip_bench.monitor import Monitor
from madclip_bench.quiet import Window
from madclip_bench.scanner import RoomsTrial
from madclip_bench.scenarios import Trials
from madclip_bench.starts import Start
from madclip_bench.trial import Trial

__all__ = ["Raw"]


@dataclass(frozen=True)
class Raw:
    """image_sha256: of the queries' images, by index. score_low, score_high: lowest and highest answer to each during
    the timed scenarios, None where it was never asked about.

    load_ms: Detector.load of the timed process. peak_memory_bytes: of that process at the end, its images included.
    idle: the quiet stretch before the first scenario. starts: empty, delivery, evaluated: None, where not done.
    """

    image_sha256: tuple[str, ...]
    score_low: tuple[float | None, ...]
    score_high: tuple[float | None, ...]
    load_ms: float
    peak_memory_bytes: int | None
    idle: Window
    trials: Trials
    monitor: Monitor
    starts: tuple[Start, ...] = ()
    delivery: Delivery | None = None
    evaluated: Evaluated | None = None

    def windows(self) -> dict[str, tuple[Window, int]]:
        """Closed-loop scenario → its stretch and how many images it answered."""
        trials = self.trials
        streams = {"single": trials.single, "multi": trials.multi, "offline": trials.offline}
        return {
            name: (Window(trial.began_s, round(trial.began_s + trial.duration_s, 4)), len(trial.order))
            for name, trial in streams.items()
            if trial is not None
        }

    def timed(self) -> Window:
        """From the first scenario's beginning to the last one's end."""
        trials = self.trials
        stretches: list[Trial | RoomsTrial] = [trials.single, *trials.sweep, *trials.scanner]
        stretches += [trial for trial in (trials.multi, trials.offline) if trial is not None]
        stretches += [tried.trial for tried in trials.server]
        ends = [round(stretch.began_s + stretch.duration_s, 4) for stretch in stretches]
        return Window(min(stretch.began_s for stretch in stretches), max(ends))
