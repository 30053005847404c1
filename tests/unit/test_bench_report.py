"""The report: round trip, marks, warnings, and that every figure can be computed again from its samples."""

import dataclasses
import json
from typing import Any

import pytest

from madclip_bench.images import ImageCard, RefusedImage
from madclip_bench.machine import Machine
from madclip_bench.report import NOT_FOR_PROCUREMENT, BundleCard, Figures, Report, Setting, build
from madclip_bench.run import STAGES, Rules, Samples, Warmup
from madclip_bench.text import lines
from madclip_runtime.engines import EngineInfo
from madclip_runtime.manifest import NOTICE, DataCard, EncoderCard
from madclip_runtime.schema import SchemaError, decode, encode

ENCODER = EncoderCard("ViT-L-14-336", "openai", "a" * 64, random=False, taps=(5, 11, 17, 23))
DATA = DataCard("BrainMRI", "madclip", False, normal_shots=16, abnormal_shots=16, masks=True, epochs=20, seed=111)
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
    load_before=0.1,
    load_after=1.0,
)
SETTING = Setting(
    started_utc="2026-01-02T03:04:05Z",
    bench_version="0.1.0",
    rules=Rules.full(seed=0),
    bundle=BundleCard("brain", "d" * 64, "fp16", "brain", "det", 240, 650_000_000, ENCODER, DATA, (NOTICE,)),
    engine=EngineInfo("onnxruntime-cpu", "onnxruntime 1.0", "CPU", "fp16", 0),
    machine=MACHINE,
    images=ImageCard("a folder of images", False, 100, 100, 0, 0, 5_000_000, "e" * 64),
    warmup=Warmup(12, 210.5, 40.0),
    load_ms=950.0,
    duration_s=12.9465,  # what _even() adds up to
    peak_memory_bytes=None,
)


def _samples(latency_ms: list[float]) -> Samples:
    stages = {stage: tuple(round(value / 4, 4) for value in latency_ms) for stage in STAGES}
    return Samples(("f" * 64,), (0,) * len(latency_ms), tuple(latency_ms), stages)


def _even(count: int = 700) -> list[float]:
    """A steady run: 18.00 … 18.99 ms over and over."""
    return [round(18 + (index * 37 % 100) / 100, 4) for index in range(count)]


def _with(**changes: Any) -> Setting:
    return dataclasses.replace(SETTING, **changes)


def test_round_trip_through_the_schema() -> None:
    report = build(SETTING, _samples(_even()))
    assert decode(Report, json.loads(json.dumps(encode(report), allow_nan=False))) == report
    assert Report.from_json(report.to_json()) == report


def test_the_printed_summary_is_the_report_without_samples() -> None:
    report = build(SETTING, _samples(_even()))
    printed = decode(Report, json.loads(json.dumps(report.summary())))
    assert printed == dataclasses.replace(report, samples=None)
    assert next(iter(report.summary())) == "format"


def test_figures_can_be_computed_again_from_the_file() -> None:
    report = Report.from_json(build(SETTING, _samples(_even())).to_json())
    assert report.samples is not None
    assert Figures.of(report.samples, report.setting.duration_s) == report.figures
    assert build(report.setting, report.samples) == report


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format": "madclip-report/2"}', b"\xff"])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(SchemaError):
        Report.from_json(data)


def test_another_format_is_refused() -> None:
    data = build(SETTING, _samples(_even())).to_json().replace(b"madclip-report/1", b"madclip-report/9")
    with pytest.raises(SchemaError, match="madclip-report/9"):
        Report.from_json(data)


def test_a_full_steady_run_on_enough_images_is_speed_only_and_nothing_worse() -> None:
    report = build(SETTING, _samples(_even()))
    assert report.marks == ("speed only",)
    assert report.warnings == ()
    assert report.verdict == (
        "p90 18.9 ms (99 % sure: ≤ 18.9 ms) an image on Test CPU 3000, engine onnxruntime-cpu fp16, stable (speed only)"
    )


IMAGES = SETTING.images


@pytest.mark.parametrize(
    ("setting", "mark"),
    [
        (_with(rules=Rules.fast(seed=0)), "quick run"),
        (_with(images=dataclasses.replace(IMAGES, synthetic=True)), "synthetic images"),
        (_with(images=dataclasses.replace(IMAGES, used=63)), "few images"),
    ],
)
def test_a_broken_rule_marks_the_report_not_for_procurement(setting: Setting, mark: str) -> None:
    report = build(setting, _samples(_even()))
    assert report.marks[:2] == (NOT_FOR_PROCUREMENT, mark)
    assert NOT_FOR_PROCUREMENT in report.verdict
    assert f"NOT FOR PROCUREMENT: {mark}" in lines(report)
    assert json.loads(report.to_json())["marks"][0] == "not for procurement"


def test_a_drifting_machine_is_unstable() -> None:
    report = build(SETTING, _samples([value * (1 if index < 500 else 1.5) for index, value in enumerate(_even())]))
    assert report.figures.stability.verdict == "unstable"
    assert {NOT_FOR_PROCUREMENT, "unstable"} <= set(report.marks)
    assert any("not steady" in warning for warning in report.warnings)


def test_random_weights_stand_in_the_verdict() -> None:
    bundle = dataclasses.replace(SETTING.bundle, encoder=dataclasses.replace(ENCODER, random=True))
    assert "random weights" in build(_with(bundle=bundle), _samples(_even())).verdict


def test_warnings_name_few_images_refused_ones_variation_and_load() -> None:
    images = dataclasses.replace(IMAGES, used=63, refused=(RefusedImage("x.png", "the file is empty"),))
    setting = _with(images=images, machine=MACHINE.with_load(3.5, 3.6))
    report = build(setting, _samples([10.0, 10.0, 13.0] * 300))
    warned = " | ".join(report.warnings)
    for part in ("only 63 distinct", "1 image(s)", "coefficient of variation", "load average 3.5"):
        assert part in warned
    assert any(line.endswith("x.png: the file is empty") for line in lines(report))


def test_what_the_sample_cannot_support_is_null_and_says_what_it_needs() -> None:
    report = build(_with(rules=Rules.fast(seed=0)), _samples(_even(100)))
    p99 = json.loads(report.to_json())["figures"]["latency"]["percentiles"][2]
    assert (p99["name"], p99["value_ms"], p99["early_stopping_ms"]) == ("p99", None, None)
    assert p99["note"] == "not supported, needs 662 queries"
    assert any("p99 not supported, needs 662 queries" in line for line in lines(report))


def test_stages_are_medians_and_the_rest_of_a_query_is_shown() -> None:
    figures = build(SETTING, _samples([20.0] * 662)).figures
    assert figures.stage_median_ms == {"decode": 5.0, "preprocess": 5.0, "compute": 5.0, "other": 5.0}
    assert figures.engine_only.percentiles[1].value_ms == 5.0


def test_what_was_not_measured_is_said() -> None:
    report = build(SETTING, _samples(_even()))
    assert (report.accuracy.status, report.energy.status) == ("speed only", "not measured")
    text = "\n".join(lines(report))
    assert "peak memory not measured" in text and "not measured physical cores" in text
    assert "MLPerf-style" in text and NOTICE in text
