"""Made-up clocks, engines and whole reports for the bench's tests: every right answer is known, and nothing sleeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_bench.accuracy import Evaluated
from madclip_bench.building import build
from madclip_bench.delivery import Delivery
from madclip_bench.gpu_sheet import GpuSheet
from madclip_bench.images import ImageCard
from madclip_bench.machine import Machine
from madclip_bench.monitor import Monitor
from madclip_bench.packages import PackageCard
from madclip_bench.pixels import PixelTally
from madclip_bench.power_state import PowerState
from madclip_bench.quiet import Window
from madclip_bench.raw import Raw
from madclip_bench.report import BundleCard, Report, Setting
from madclip_bench.rules import Rules
from madclip_bench.scanner import RoomsTrial
from madclip_bench.scenarios import Trials
from madclip_bench.server import RateTrial
from madclip_bench.starts import Start
from madclip_bench.subject import Answered
from madclip_bench.trial import Bench, Trial, Warmup
from madclip_runtime.engines import Answer, Answers, EngineInfo
from madclip_runtime.manifest import NOTICE, DataCard, EncoderCard, Gate, OperatingPoint, Proportion

STAGES = ("decode", "preprocess", "compute")


class Clock:
    """Time passes only where a test, or a wait, says so."""

    def __init__(self) -> None:
        self.ns = 10**12

    def now_ns(self) -> int:
        return self.ns

    def sleep_until_ns(self, when_ns: int) -> None:
        self.ns = max(self.ns, when_ns)

    def pass_ms(self, milliseconds: float) -> None:
        self.ns += round(milliseconds * 1e6)


class FakeEngine:
    """Takes as long as it is told, the n-th call `cost_ms(n)`."""

    info = EngineInfo("fake", "fake 1", "none", "fp32", 1)

    def __init__(self, clock: Clock, cost_ms: Callable[[int], float]) -> None:
        self.clock, self.cost_ms, self.calls = clock, cost_ms, 0

    def run(self, images: npt.NDArray[np.uint8], heads: Sequence[str] | None = None) -> Answers:
        assert images.shape[1:] == (32, 32, 3)
        self.clock.pass_ms(self.cost_ms(self.calls))
        self.calls += 1
        count = len(images)
        return {"brightness": Answer(np.full(count, 0.5, np.float32), np.full((count, 32, 32), 0.5, np.float32))}


def fake_bench(cost_ms: Callable[[int, int], float], *, images: int = 64, seed: int = 0) -> tuple[Bench, Clock]:
    """A bench whose n-th query of k images takes cost_ms(n, k); its images' bytes are their own numbers."""
    clock, calls = Clock(), iter(range(10**9))

    def ask(encoded: Sequence[bytes]) -> Answered:
        cost = cost_ms(next(calls), len(encoded))
        clock.pass_ms(cost)
        scores = tuple(int.from_bytes(data, "big") / images for data in encoded)
        return Answered(scores, {"decode": cost / 4, "compute": cost / 2})

    return Bench(ask, [i.to_bytes(2, "big") for i in range(images)], clock, seed), clock


ENCODER = EncoderCard("ViT-L-14-336", "openai", "a" * 64, random=False, taps=(5, 11, 17, 23))
DATA = DataCard("Brain", "madclip", False, normal_shots=16, abnormal_shots=16, masks=True, epochs=20, seed=111)
POINT = OperatingPoint(0.5, Proportion(45, 50, 0.9, 0.78, 0.97), Proportion(40, 50, 0.8, 0.66, 0.9))
GATE = Gate("accuracy", "PyTorch", "onnxruntime-cpu", 80, True, {"image_auroc": 0.95}, {"image_auroc": 0.9}, "brain")
MACHINE = Machine(
    cpu="Test CPU 3000",
    architecture="x86_64",
    logical_cpus=4,
    usable_cpus=4,
    physical_cores=None,
    cpu_quota=None,
    cpu_features=("avx2",),
    memory_bytes=None,
    os="Test OS",
    kernel="6.1",
    container="none seen",
    versions={"python": "CPython 3.11"},
    power=PowerState("performance", "acpi-cpufreq", "not measured", "not measured", "mains", "on", 3000.0),
    gpus=GpuSheet((), None, None, "", "no card"),
    load_before=0.1,
    load_after=1.0,
)
SETTING = Setting(
    started_utc="2026-01-02T03:04:05Z",
    bench_version="0.1.0",
    code_sha256="c" * 64,
    rules=Rules.full(seed=0),
    bundle=BundleCard(
        model_id="brain",
        digest="d" * 64,
        precision="fp16",
        head="brain",
        image_score="det",
        input_size=240,
        disk_bytes=650_000_000,
        encoder=ENCODER,
        data=DATA,
        point_name="youden",
        point=POINT,
        gates=(GATE,),
        degraded="",
        notices=(NOTICE,),
    ),
    engine=EngineInfo("onnxruntime-cpu", "onnxruntime 1.0", "CPU", "fp16", 0),
    machine=MACHINE,
    packages=PackageCard({"madclip-runtime": 200_000, "numpy": 60_000_000}, 60_200_000),
    images=ImageCard("a folder of images", False, 100, 100, 0, 0, 5_000_000, "e" * 64),
)


def setting(**changes: Any) -> Setting:
    """SETTING with some parts replaced."""
    return dataclasses.replace(SETTING, **changes)


def even(count: int = 700) -> list[float]:
    """A steady run: 18.00 … 18.99 ms over and over."""
    return [round(18 + (index * 37 % 100) / 100, 4) for index in range(count)]


def trial(latency_ms: Sequence[float], *, batch: int = 1, began_s: float = 100.0, images: int = 100) -> Trial:
    """A closed loop with these latencies, a quarter of each in each of three stages, and no gaps between queries."""
    return Trial(
        began_s=began_s,
        duration_s=round(sum(latency_ms) / 1e3, 4),
        batch=batch,
        order=tuple(i % images for i in range(batch * len(latency_ms))),
        latency_ms=tuple(latency_ms),
        stage_ms={stage: tuple(round(value / 4, 4) for value in latency_ms) for stage in STAGES},
    )


def open_trial(rate_per_s: float, count: int, wait_ms: float = 2.0, service_ms: float = 18.0) -> Trial:
    """An open loop in which every query waits and works alike, arrivals evenly spaced."""
    scheduled = tuple(round(i * 1e3 / rate_per_s, 4) for i in range(count))
    return Trial(
        began_s=200.0,
        duration_s=round((scheduled[-1] + wait_ms + service_ms) / 1e3, 4),
        batch=1,
        order=tuple(i % 100 for i in range(count)),
        latency_ms=(wait_ms + service_ms,) * count,
        stage_ms={},
        scheduled_ms=scheduled,
        waited_ms=(wait_ms,) * count,
    )


def rooms_trial(rooms: int, took_s: float, *, busy_s: float, exams: int = 3) -> RoomsTrial:
    """Every exam takes `took_s` from its arrival; one period of 240 s an exam."""
    arrived = tuple(240e3 * (i // rooms) for i in range(rooms * exams))
    done = tuple(at + took_s * 1e3 for at in arrived)
    room = tuple(i % rooms for i in range(rooms * exams))
    return RoomsTrial(rooms, 8, 300.0, round(max(done) / 1e3, 4), busy_s, room, arrived, done, cut=False)


def monitor(*, others: float = 0.0, watts: float | None = 40.0, seconds: int = 400, gpu_bits: int = 0) -> Monitor:
    """A sample a second from 90 s on: four CPUs, the timed process on two of them, `others` CPUs' worth beside it."""
    at = tuple(90.0 + i for i in range(seconds))
    columns: dict[str, tuple[float | None, ...]] = {
        "cpu_all_s_total": tuple(4.0 * i for i in range(seconds)),
        "cpu_busy_s_total": tuple((2.0 + others) * i for i in range(seconds)),
        "timed_s_total": tuple(2.0 * i - 0.01 * i for i in range(seconds)),
        "sampler_s_total": tuple(0.01 * i for i in range(seconds)),
        "cpu_steal_s_total": (0.0,) * seconds,
        "cpu_mhz": (3000.0,) * seconds,
        "temperature_c:cpu-thermal": tuple(50.0 + i % 10 for i in range(seconds)),
        "gpu_throttle_reasons:gpu0": (float(gpu_bits),) * seconds,
    }
    if watts is not None:
        columns["energy_j_total:package-0"] = tuple(watts * i for i in range(seconds))
    return Monitor(1.0, at, columns, {"GPU clocks, temperature, power": "no card"})


def evaluated(*, masks: bool = True) -> Evaluated:
    """50 normal images that score 0.1 … 0.59 and 50 abnormal ones that score 0.41 … 0.9, in hundredths."""
    tally = PixelTally()
    heat = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for shift in range(10):
        tally.add(np.roll(heat, shift), np.roll(heat > 0.8, 1 + shift % 2))
    return Evaluated(
        dataset="Brain",
        synthetic=False,
        image_sha256=tuple(f"{i:064x}" for i in range(100)),
        abnormal=tuple(i >= 50 for i in range(100)),
        scores=tuple(round(0.1 + i / 100, 2) if i < 50 else round(0.41 + (i - 50) / 100, 2) for i in range(100)),
        pixels=tally.counts() if masks else None,
    )


def raw(latency_ms: Sequence[float] | None = None, **changes: Any) -> Raw:
    """A whole run, steady and quiet, every scenario in it."""
    single = trial(even() if latency_ms is None else latency_ms)
    whole = Raw(
        image_sha256=tuple(f"{i:064x}" for i in range(100)),
        score_low=evaluated().scores,
        score_high=evaluated().scores,
        load_ms=950.0,
        peak_memory_bytes=1_400_000_000,
        idle=Window(90.0, 99.0),
        trials=Trials(
            warmup=Warmup(12, 210.5, 40.0),
            single=single,
            multi=trial([8 * value for value in even()], batch=8, began_s=120.0),
            sweep=tuple(trial([n * 17.0] * 20, batch=n, began_s=115.0) for n in (1, 2, 4)),
            offline=trial([68.0] * 100, batch=4, began_s=230.0),
            server=(RateTrial(40.0, open_trial(40.0, 700)), RateTrial(42.0, open_trial(42.0, 700, 1500.0))),
            scanner=(rooms_trial(30, 200.0, busy_s=600.0), rooms_trial(31, 260.0, busy_s=720.0)),
        ),
        monitor=monitor(),
        starts=(
            Start("first", 20.0, 100.0, 3000.0, 60.0, 3180.0, 900_000_000),
            Start("again", 20.0, 100.0, 900.0, 60.0, 1080.0, 910_000_000),
        ),
        delivery=Delivery((12.0, 14.0), (3.0, 5.0), (40_000, 42_000)),
        evaluated=evaluated(),
    )
    return dataclasses.replace(whole, **changes)


def trials(**changes: Any) -> Trials:
    """raw()'s trials with some replaced."""
    return dataclasses.replace(raw().trials, **changes)


def report(of: Setting | None = None, samples: Raw | None = None) -> Report:
    """A report of a good full run, or of what is given."""
    return build(of or SETTING, samples or raw())
