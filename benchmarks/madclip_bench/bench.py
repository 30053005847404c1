"""One bench run from a bundle's path to its report: load, prepare images, time, read the machine.

report = time_bundle(Path("x-fp16.madclip"), Path("images"), Rules.full(seed=0))
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from madclip_bench import __version__
from madclip_bench.images import ImageSet, folder_images, synthetic_images
from madclip_bench.machine import load_average, peak_memory_bytes, read_machine
from madclip_bench.report import BundleCard, Report, Setting, build
from madclip_bench.run import Rules, measure, silent
from madclip_runtime.detector import Detector

__all__ = ["time_bundle", "time_detector"]


def time_bundle(
    bundle: Path,
    folder: Path | None,
    rules: Rules,
    *,
    engine: str = "cpu",
    tick: Callable[[int, float], None] = silent,
) -> Report:
    """Load a bundle and time it. folder: images to query with; None: 64 synthetic ones.

    Raises: BundleRefused, EngineRefused, InputRefused (no readable image), UsageError.
    """
    load_before, start_ns = load_average(), time.perf_counter_ns()
    detector = Detector.load(bundle, engine=engine)
    load_ms = (time.perf_counter_ns() - start_ns) / 1e6
    images = synthetic_images(rules.seed) if folder is None else folder_images(folder, rules.seed)
    return time_detector(detector, images, rules, load_ms=load_ms, load_before=load_before, tick=tick)


def time_detector(
    detector: Detector,
    images: ImageSet,
    rules: Rules,
    *,
    load_ms: float,
    load_before: float | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    tick: Callable[[int, float], None] = silent,
) -> Report:
    """Time a loaded detector. load_ms: what loading it took. Raises: EngineRefused, InputRefused."""
    started = datetime.now(timezone.utc)
    run = measure(detector, images, rules, clock_ns=clock_ns, tick=tick)
    setting = Setting(
        started_utc=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        bench_version=__version__,
        rules=rules,
        bundle=BundleCard.of(detector.bundle, detector.head),
        engine=detector.engine.info,
        machine=read_machine().with_load(load_before, load_average()),
        images=images.card(),
        warmup=run.warmup,
        load_ms=round(load_ms, 4),
        duration_s=run.duration_s,
        peak_memory_bytes=peak_memory_bytes(),
    )
    return build(setting, run.samples)
