"""Scanner scenario: rooms that each send an exam of many slices every few minutes. How many rooms does the box serve?

Exams wait in line, first come first served; an exam's slices go through the engine in batches. A number of rooms is
kept up with where every exam was answered within its deadline and the box still had a little rest: with more work than
time, the line only grows slower than the stretch lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from madclip_bench.arrivals import exam_arrivals
from madclip_bench.rules import ScannerRules
from madclip_bench.trial import Bench, milliseconds

__all__ = ["RoomsPoint", "RoomsTrial", "ScannerFigures", "find_rooms"]


@dataclass(frozen=True)
class RoomsTrial:
    """One stretch with so many rooms. room, arrived_ms, done_ms: of each exam, in order of arrival, from began_s on.

    batch: images handed over together. busy_s: spent on exams. cut: ended at the first exam that came too late.
    """

    rooms: int
    batch: int
    began_s: float
    duration_s: float
    busy_s: float
    room: tuple[int, ...]
    arrived_ms: tuple[float, ...]
    done_ms: tuple[float, ...]
    cut: bool


@dataclass(frozen=True)
class RoomsPoint:
    """What so many rooms came to. slowest_s: from an exam's arrival to its last answer, the longest of all."""

    rooms: int
    exams: int
    late: int
    slowest_s: float
    busy_share: float
    keeps_up: bool

    @classmethod
    def of(cls, trial: RoomsTrial, rules: ScannerRules) -> RoomsPoint:
        """Judge one stretch. Its length is the exams' own: idle time between two of them is rest."""
        took_s = [(done - arrived) / 1e3 for arrived, done in zip(trial.arrived_ms, trial.done_ms, strict=True)]
        late = sum(seconds > rules.deadline_s for seconds in took_s)
        length_s = max(trial.duration_s, len(trial.room) * rules.period_s / trial.rooms)
        busy = trial.busy_s / length_s
        return cls(
            rooms=trial.rooms,
            exams=len(trial.room),
            late=late,
            slowest_s=round(max(took_s), 4),
            busy_share=round(busy, 4),
            keeps_up=late == 0 and not trial.cut and busy <= rules.most_busy,
        )


@dataclass(frozen=True)
class ScannerFigures:
    """rooms: the most that were run and kept up with, 0 where not even one was.

    falls_behind_at: the fewest that were run and not kept up with, None where none was. scale: exams were this much
    smaller and quicker than in the pattern (1: not).
    """

    slices: int
    period_s: float
    deadline_s: float
    scale: float
    rooms: int
    falls_behind_at: int | None
    tried: tuple[RoomsPoint, ...]

    @classmethod
    def of(cls, trials: tuple[RoomsTrial, ...], rules: ScannerRules) -> ScannerFigures:
        """From all stretches of a run. slices, period_s, deadline_s: of the pattern as it was asked for."""
        tried = tuple(sorted((RoomsPoint.of(trial, rules) for trial in trials), key=lambda point: point.rooms))
        return cls(
            slices=round(rules.slices / rules.scale),
            period_s=round(rules.period_s / rules.scale, 4),
            deadline_s=round(rules.deadline_s / rules.scale, 4),
            scale=round(rules.scale, 6),
            rooms=max((point.rooms for point in tried if point.keeps_up), default=0),
            falls_behind_at=min((point.rooms for point in tried if not point.keeps_up), default=None),
            tried=tried,
        )


def find_rooms(bench: Bench, rules: ScannerRules, *, images_per_s: float, batch: int) -> tuple[RoomsTrial, ...]:
    """Begin with the rooms that the measured throughput should serve; one fewer where that falls behind, one more where
    it keeps up and there would still be rest.

    images_per_s: what the box answers at this batch.
    """
    rooms = max(1, int(rules.most_busy * images_per_s / rules.images_per_s))
    trials: dict[int, RoomsTrial] = {}
    while rooms >= 1 and rooms not in trials and len(trials) < rules.most_trials:
        trials[rooms] = _try(bench, rules, rooms, batch)
        point = RoomsPoint.of(trials[rooms], rules)
        room_for_more = point.busy_share * (rooms + 1) / rooms <= rules.most_busy
        if point.keeps_up and not room_for_more:
            break
        rooms += 1 if point.keeps_up else -1
    return tuple(trials.values())


@dataclass
class _Taken:
    exams: list[tuple[int, float, float]] = field(default_factory=list)
    busy_ns: int = 0


def _try(bench: Bench, rules: ScannerRules, rooms: int, batch: int) -> RoomsTrial:
    exams_a_room = max(rules.least_exams_a_room, -int(-rules.least_s // rules.period_s))
    # Exams of a quick run are smaller than a batch of the pattern's own would be.
    batch = min(batch, rules.slices)
    order, taken, cut = bench.order(), _Taken(), False
    start = bench.clock.now_ns()
    for room, arrived_ms in exam_arrivals(rooms, exams_a_room, rules.period_s, bench.seed):
        due = start + round(arrived_ms * 1e6)
        bench.clock.sleep_until_ns(due)
        issued = bench.clock.now_ns()
        bench.tick("scanner", len(taken.exams), (issued - start) / 1e9)
        _answer(bench, order, rules.slices, batch)
        done = bench.clock.now_ns()
        taken.busy_ns += done - issued
        taken.exams.append((room, arrived_ms, milliseconds(done - start)))
        if (done - due) / 1e9 > rules.deadline_s:
            cut = True
            break
    return _trial(taken, rooms, batch, start, bench.clock.now_ns(), cut=cut)


def _answer(bench: Bench, order: Iterator[int], slices: int, batch: int) -> None:
    for first in range(0, slices, batch):
        indices = [next(order) for _ in range(min(batch, slices - first))]
        bench.book.note(indices, bench.ask(indices).scores)


def _trial(taken: _Taken, rooms: int, batch: int, start_ns: int, end_ns: int, *, cut: bool) -> RoomsTrial:
    room, arrived, done = zip(*taken.exams, strict=True)
    began_s, duration_s, busy_s = (round(ns / 1e9, 4) for ns in (start_ns, end_ns - start_ns, taken.busy_ns))
    return RoomsTrial(rooms, batch, began_s, duration_s, busy_s, room, arrived, done, cut)
