"""All figures of a report, computed from its raw samples and nothing but them and the rules."""

from __future__ import annotations

from dataclasses import dataclass

from madclip_bench.accuracy import SPEED_ONLY, AccuracyFigures, Evaluated, PromisedFigures
from madclip_bench.delivery import DeliveryFigures
from madclip_bench.energy import EnergyFigures
from madclip_bench.quiet import QuietFigures
from madclip_bench.raw import Raw
from madclip_bench.rules import Rules
from madclip_bench.scanner import ScannerFigures
from madclip_bench.server import ServerFigures
from madclip_bench.starts import StartFigures
from madclip_bench.streams import OfflineFigures, StreamFigures
from madclip_bench.trial import Warmup

__all__ = ["Answers", "Figures"]


@dataclass(frozen=True)
class Answers:
    """Whether the timed engine kept giving the same answers. images: that were asked about while it was timed.

    spread: largest difference between two timed answers to one image. gap: largest difference between a timed answer
    and the one that the accuracy was computed from, None where no image is in both.
    """

    images: int
    spread: float
    gap: float | None

    @classmethod
    def of(cls, raw: Raw) -> Answers:
        """From the book of answers."""
        asked = {
            digest: (low, high)
            for digest, low, high in zip(raw.image_sha256, raw.score_low, raw.score_high, strict=True)
            if low is not None and high is not None
        }
        spread = max((high - low for low, high in asked.values()), default=0.0)
        return cls(len(asked), round(spread, 9), _gap(asked, raw.evaluated))


@dataclass(frozen=True)
class Figures:
    """Every figure. None: not asked for, or not done; energy and accuracy say so in a word of their own."""

    load_ms: float
    peak_memory_bytes: int | None
    warmup: Warmup
    single: StreamFigures
    multi: StreamFigures | None
    offline: OfflineFigures | None
    server: ServerFigures | None
    scanner: ScannerFigures | None
    starts: StartFigures | None
    delivery: DeliveryFigures | None
    quiet: QuietFigures
    energy: EnergyFigures
    accuracy: AccuracyFigures
    answers: Answers

    @classmethod
    def of(cls, raw: Raw, rules: Rules, promised: PromisedFigures) -> Figures:
        """Compute all of them. promised: what the bundle's manifest says of the timed head."""
        trials = raw.trials
        return cls(
            load_ms=raw.load_ms,
            peak_memory_bytes=raw.peak_memory_bytes,
            warmup=trials.warmup,
            single=StreamFigures.of(trials.single),
            multi=None if trials.multi is None else StreamFigures.of(trials.multi),
            offline=None if trials.offline is None else OfflineFigures.of(trials.offline, trials.sweep),
            server=ServerFigures.of(trials.server, rules.server) if rules.wants("server") else None,
            scanner=ScannerFigures.of(trials.scanner, rules.scanner) if rules.wants("scanner") else None,
            starts=StartFigures.of(raw.starts) if raw.starts else None,
            delivery=None if raw.delivery is None else DeliveryFigures.of(raw.delivery),
            quiet=QuietFigures.of(raw.monitor, raw.timed()),
            energy=EnergyFigures.of(raw.monitor, raw.idle, raw.windows()),
            accuracy=_accuracy(raw.evaluated, promised),
            answers=Answers.of(raw),
        )


def _gap(asked: dict[str, tuple[float, float]], evaluated: Evaluated | None) -> float | None:
    if evaluated is None:
        return None
    gaps = [
        max(abs(asked[digest][0] - score), abs(asked[digest][1] - score))
        for digest, score in zip(evaluated.image_sha256, evaluated.scores, strict=True)
        if digest in asked
    ]
    return round(max(gaps), 9) if gaps else None


def _accuracy(evaluated: Evaluated | None, promised: PromisedFigures) -> AccuracyFigures:
    if evaluated is None:
        return AccuracyFigures(SPEED_ONLY, "no --data was given, so the timed engine was not asked how right it is")
    return AccuracyFigures.of(evaluated, promised)
