"""One run from a bundle's path to its report: load, prepare images, time every scenario, ask for accuracy.

report = run_bundle(Job(Path("x-fp16.madclip"), Rules.full(seed=0), data=Path("Brain_AD")))
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path

from madclip_bench import __version__
from madclip_bench.accuracy import evaluate
from madclip_bench.building import build
from madclip_bench.cases import TestSet, open_test_set
from madclip_bench.clock import Clock, WallClock
from madclip_bench.delivery import deliver
from madclip_bench.engine_cache import cache_options, fresh_cache
from madclip_bench.images import ImageSet, folder_images, listed_images, query_order, synthetic_images
from madclip_bench.integrity import code_sha256
from madclip_bench.machine import Machine, load_average, peak_memory_bytes, read_machine
from madclip_bench.monitor import Monitor, Watch
from madclip_bench.packages import installed_packages
from madclip_bench.quiet import Window
from madclip_bench.raw import Raw
from madclip_bench.report import BundleCard, Report, Setting
from madclip_bench.rules import Rules
from madclip_bench.scenarios import Trials, run_scenarios
from madclip_bench.starts import take_starts
from madclip_bench.subject import subject_of
from madclip_bench.trial import Bench, Tick, silent
from madclip_runtime.detector import Detector
from madclip_runtime.errors import OutputNotWritten

__all__ = ["Job", "run_bundle", "time_detector"]


@dataclass(frozen=True)
class Job:
    """What was asked for. images: a folder to query with; data: an `_AD` folder whose test split gives accuracy, and
    the images too where `images` is None; with neither, 64 synthetic images. folder: on the disk that results go to.
    """

    bundle: Path
    rules: Rules
    engine: str = "cpu"
    head: str | None = None
    images: Path | None = None
    data: Path | None = None
    folder: Path = Path()


def run_bundle(job: Job, *, tick: Tick = silent) -> Report:
    """Everything, in this order: cold starts, load, scenarios under the sampler's eyes, deliveries, accuracy.

    Raises: BundleRefused, EngineRefused, InputRefused (no readable image), UsageError, OutputNotWritten.
    """
    with _place(job.folder) as place:
        return _run(job, fresh_cache(place), tick)


def _run(job: Job, cache: Path, tick: Tick) -> Report:
    started, load_before = datetime.now(timezone.utc), load_average()
    cases = None if job.data is None else open_test_set(job.data)  # a wrong folder shows now, not after an hour
    images = _images(job, cases)
    tick("cold starts", 0, 0.0)
    # Before this process holds the model too: a small box may not have room for it twice.
    again, from_disk = job.rules.starts, job.rules.starts_from_disk
    starts = take_starts(job.bundle, job.engine, job.head, images.encoded[0], cache, again=again, from_disk=from_disk)
    loading_ns = time.perf_counter_ns()
    detector = Detector.load(job.bundle, engine=job.engine, head=job.head, **cache_options(cache))
    load_ms = round((time.perf_counter_ns() - loading_ns) / 1e6, 4)
    raw = time_detector(detector, images, job.rules, period_s=job.rules.sample_s, tick=tick)
    tick("deliveries", 0, 0.0)
    first = list(islice(query_order(len(images.encoded), job.rules.seed), job.rules.deliveries))
    delivery = deliver(detector, [images.encoded[index] for index in first], job.folder)
    evaluated = None if cases is None else evaluate(detector, cases, tick=tick)
    whole = replace(raw, load_ms=load_ms, starts=starts, delivery=delivery, evaluated=evaluated)
    machine = read_machine().with_load(load_before, load_average())
    return build(_setting(job, detector, images, machine, started), whole)


def time_detector(
    detector: Detector,
    images: ImageSet,
    rules: Rules,
    *,
    clock: Clock | None = None,
    period_s: float | None = None,
    tick: Tick = silent,
) -> Raw:
    """The scenarios alone. period_s: of the sampler, None for no sampler. Raises: EngineRefused, InputRefused."""
    bench = Bench(subject_of(detector), images.encoded, clock or WallClock(), rules.seed, tick=tick)
    if period_s is None:
        monitor = Monitor(0.0, (), {}, {"everything": "no sampler was asked for"})
        idle, trials = _scenarios(bench, rules)
    else:
        with Watch(period_s) as watch:
            idle, trials = _scenarios(bench, rules)
        monitor = watch.monitor
    low, high = bench.book.columns(len(images.hashes))
    return Raw(images.hashes, low, high, 0.0, peak_memory_bytes(), idle, trials, monitor)


@contextlib.contextmanager
def _place(folder: Path) -> Iterator[Path]:
    """A folder on the disk that results go to, gone when the run ends. Raises: OutputNotWritten."""
    try:
        made = tempfile.TemporaryDirectory(prefix=".madclip-bench-", dir=folder)
    except OSError as error:
        raise OutputNotWritten(str(folder), error.strerror or str(error), "check the folder and its space") from None
    with made as name:
        yield Path(name)


def _scenarios(bench: Bench, rules: Rules) -> tuple[Window, Trials]:
    quiet_ns = bench.clock.now_ns()
    bench.tick("quiet seconds first", 0, 0.0)
    bench.clock.sleep_until_ns(quiet_ns + round(rules.idle_s * 1e9))
    idle = Window(round(quiet_ns / 1e9, 4), round(bench.clock.now_ns() / 1e9, 4))
    return idle, run_scenarios(bench, rules)


def _images(job: Job, cases: TestSet | None) -> ImageSet:
    seed = job.rules.seed
    if job.images is not None:
        return folder_images(job.images, seed)
    if job.data is not None and cases is not None:
        return listed_images(cases.images, job.data, seed, synthetic=cases.synthetic)
    return synthetic_images(seed)


def _setting(job: Job, detector: Detector, images: ImageSet, machine: Machine, started: datetime) -> Setting:
    return Setting(
        started_utc=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        bench_version=__version__,
        code_sha256=code_sha256(),
        rules=job.rules,
        bundle=BundleCard.of(detector.bundle, detector.head),
        engine=detector.engine.info,
        machine=machine,
        packages=installed_packages(),
        images=images.card(),
    )
