"""One stretch of queries and what it leaves. Two ways to issue them:

closed loop: the next query is issued when the last one is answered; its latency runs from issue to answer.
open loop: queries arrive when they were scheduled to, whether or not the last one is answered; the latency runs from
the *scheduled* time, so waiting behind a stalled query counts (no coordinated omission).

All on one clock. What this module does not know: percentiles, machines, or how a report looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from madclip_bench.clock import Clock
from madclip_bench.images import query_order
from madclip_bench.rules import Limits
from madclip_bench.subject import AnswerBook, Answered, Subject

__all__ = ["Bench", "Tick", "Trial", "Warmup", "closed_loop", "milliseconds", "open_loop", "silent", "warm_up"]

Tick = Callable[[str, int, float], None]
"""Called between queries: which scenario, queries done, seconds since its start. Its time falls into no latency."""


@dataclass(frozen=True)
class Trial:
    """Everything a stretch left, in query order; ms to four decimals. All figures come from these numbers.

    began_s: when it began, on the machine's monotonic clock (the sampler's). duration_s: from there to the last answer.
    batch: images a query. order: which image each query used, batch after batch, an index into the report's image list.
    stage_ms: by stage, over all images of a query; not kept in an open loop, whose samples are many. scheduled_ms:
    arrival of each query, from the stretch's beginning; waited_ms: from there to its issue. Both are empty in a closed
    loop. cut: an open loop was ended before its time, since it could no longer hold its bound.
    """

    began_s: float
    duration_s: float
    batch: int
    order: tuple[int, ...]
    latency_ms: tuple[float, ...]
    stage_ms: dict[str, tuple[float, ...]]
    scheduled_ms: tuple[float, ...] = ()
    waited_ms: tuple[float, ...] = ()
    cut: bool = False

    @property
    def queries(self) -> int:
        """How many were answered."""
        return len(self.latency_ms)

    @property
    def images_per_s(self) -> float:
        """Images answered over the stretch's duration."""
        return len(self.order) / self.duration_s if self.duration_s > 0 else 0.0


@dataclass(frozen=True)
class Warmup:
    """Queries that were run first and not counted. first_result_ms: the very first query after loading."""

    queries: int
    total_ms: float
    first_result_ms: float


def silent(scenario: str, queries: int, elapsed_s: float) -> None:
    """The tick that says nothing."""


@dataclass(frozen=True)
class Bench:
    """What every stretch of a run shares: the subject, its images, one clock, one book of answers, one seed."""

    subject: Subject
    images: Sequence[bytes]
    clock: Clock
    seed: int
    book: AnswerBook = field(default_factory=AnswerBook)
    tick: Tick = silent

    def order(self) -> Iterator[int]:
        """Image indices without end; every stretch starts the same seeded order anew."""
        return query_order(len(self.images), self.seed)

    def ask(self, indices: Sequence[int]) -> Answered:
        """One query of these images."""
        return self.subject([self.images[index] for index in indices])


@dataclass
class _Taken:
    """Columns under construction."""

    order: list[int] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    scheduled_ms: list[float] = field(default_factory=list)
    waited_ms: list[float] = field(default_factory=list)

    def add(self, indices: Sequence[int], latency_ns: int) -> None:
        self.order.extend(indices)
        self.latency_ms.append(milliseconds(latency_ns))

    def add_stages(self, answered: Answered) -> None:
        self.stages.append(answered.stage_ms)

    def add_arrival(self, scheduled_ms: float, waited_ns: int) -> None:
        self.scheduled_ms.append(scheduled_ms)
        self.waited_ms.append(milliseconds(waited_ns))

    def trial(self, start_ns: int, end_ns: int, batch: int, *, cut: bool = False) -> Trial:
        names = dict.fromkeys(name for stages in self.stages for name in stages)
        return Trial(
            began_s=round(start_ns / 1e9, 4),
            duration_s=round((end_ns - start_ns) / 1e9, 4),
            batch=batch,
            order=tuple(self.order),
            latency_ms=tuple(self.latency_ms),
            # A stage that a query did not go through took it no time.
            stage_ms={name: tuple(round(stages.get(name, 0.0), 4) for stages in self.stages) for name in names},
            scheduled_ms=tuple(self.scheduled_ms),
            waited_ms=tuple(self.waited_ms),
            cut=cut,
        )


def closed_loop(bench: Bench, scenario: str, limits: Limits, *, batch: int = 1) -> Trial:
    """Queries of `batch` images, one after the other, until the limits are met.

    Raises: what the subject raises; no part of a run is kept then.
    """
    order, taken = bench.order(), _Taken()
    start = now = bench.clock.now_ns()
    while not limits.done(len(taken.latency_ms), (now - start) / 1e9):
        bench.tick(scenario, len(taken.latency_ms), (now - start) / 1e9)
        indices = [next(order) for _ in range(batch)]
        issued = bench.clock.now_ns()
        answered = bench.ask(indices)
        now = bench.clock.now_ns()
        taken.add(indices, now - issued)
        taken.add_stages(answered)
        bench.book.note(indices, answered.scores)
    return taken.trial(start, now, batch)


def open_loop(
    bench: Bench, scenario: str, arrivals_ms: Sequence[float], *, hopeless: Callable[[float], bool] | None = None
) -> Trial:
    """One image an arrival, first come first served. arrivals_ms: from the beginning of the stretch, ascending.

    hopeless: told each latency (ms) as it comes; True ends the stretch. Raises: what the subject raises.
    """
    order, taken, cut = bench.order(), _Taken(), False
    start = now = bench.clock.now_ns()
    for scheduled_ms in arrivals_ms:
        bench.tick(scenario, len(taken.latency_ms), (now - start) / 1e9)
        due = start + round(scheduled_ms * 1e6)
        bench.clock.sleep_until_ns(due)
        indices, issued = [next(order)], bench.clock.now_ns()
        answered = bench.ask(indices)
        now = bench.clock.now_ns()
        taken.add(indices, now - due)
        taken.add_arrival(scheduled_ms, issued - due)
        bench.book.note(indices, answered.scores)
        if hopeless is not None and hopeless(milliseconds(now - due)):
            cut = True
            break
    return taken.trial(start, now, 1, cut=cut)


def warm_up(bench: Bench, least_ms: float, least_queries: int) -> Warmup:
    """Queries in the images' own order until both limits are met; none of them is counted."""
    start = now = bench.clock.now_ns()
    first_ns, queries = 0, 0
    while queries < least_queries or now - start < least_ms * 1e6:
        bench.ask([queries % len(bench.images)])
        now = bench.clock.now_ns()
        queries += 1
        first_ns = first_ns or now - start
    return Warmup(queries, milliseconds(now - start), milliseconds(first_ns))


def milliseconds(nanoseconds: int) -> float:
    """To four decimals, as everything in a report."""
    return round(nanoseconds / 1e6, 4)
