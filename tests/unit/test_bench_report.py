"""The report: round trip, schema, marks, warnings, words, and that every figure comes from its samples."""

import dataclasses
import json

import jsonschema
import pytest
from bench_fakes import (
    ENCODER,
    MACHINE,
    SETTING,
    evaluated,
    even,
    monitor,
    open_trial,
    raw,
    report,
    rooms_trial,
    setting,
    trial,
    trials,
)

from madclip_bench.building import build
from madclip_bench.figures import Figures
from madclip_bench.images import RefusedImage
from madclip_bench.integrity import pack, unpack
from madclip_bench.json_schema import FOLDER, SCHEMAS, text_of
from madclip_bench.report import Report, Setting
from madclip_bench.rules import Rules
from madclip_bench.server import RateTrial
from madclip_bench.verdict import NOT_FOR_PROCUREMENT
from madclip_runtime.manifest import NOTICE
from madclip_runtime.schema import SchemaError, encode

IMAGES = SETTING.images


def test_round_trip() -> None:
    made = report()
    again = Report.from_json(made.to_json())
    assert again == made
    assert again.samples() == raw()
    assert again.to_json() == made.to_json()


def test_figures_can_be_computed_again_from_the_file() -> None:
    made = Report.from_json(report().to_json())
    assert Figures.of(made.samples(), made.setting.rules, made.setting.bundle.promised()) == made.figures
    assert build(made.setting, made.samples()) == made


def test_the_printed_summary_is_the_report_without_samples() -> None:
    made = report()
    assert next(iter(made.summary())) == "format" and "raw" not in made.summary()
    assert list(json.loads(made.to_json()))[-1] == "raw"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schemas_are_those_of_the_code(name: str) -> None:
    """After a change: python -m madclip_bench.json_schema"""
    assert (FOLDER / name).read_text(encoding="utf-8") == text_of(SCHEMAS[name])
    jsonschema.Draft202012Validator.check_schema(json.loads((FOLDER / name).read_text(encoding="utf-8")))


def _validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((FOLDER / name).read_text(encoding="utf-8")))


def test_reports_are_valid_by_the_published_schemas() -> None:
    bare = raw(starts=(), delivery=None, evaluated=None, trials=trials(multi=None, offline=None, server=(), scanner=()))
    for made in (report(), report(setting(rules=Rules.fast(0, scenarios=("single",))), bare)):
        _validator("report-2.schema.json").validate(json.loads(made.to_json()))
        assert made.raw is not None
        _validator("report-2-samples.schema.json").validate(unpack(made.raw))


@pytest.mark.parametrize("path", [("figures", "single"), ("setting", "machine"), ("digest",), ("raw", "sha256")])
def test_the_schema_misses_nothing_that_is_missing(path: tuple[str, ...]) -> None:
    document = json.loads(report().to_json())
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    assert not _validator("report-2.schema.json").is_valid(document)
    if path[0] not in ("digest", "raw"):
        with pytest.raises(SchemaError, match="missing"):
            Report.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format": "madclip-report/1"}', b"\xff", b"[" * 100_000])
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(SchemaError):
        Report.from_json(data)


def test_another_format_is_named() -> None:
    with pytest.raises(SchemaError, match="'madclip-report/1'; this version reads madclip-report/2"):
        Report.from_json(b'{"format": "madclip-report/1"}')


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"encoding": "gzip"}, "raw.encoding"),
        ({"bytes": 2**40}, "beyond"),
        ({"bytes": 3}, "not what raw.sha256 says"),
        ({"data": "!!!"}, "can't be unpacked"),
        ({"data": "AAAA"}, "can't be unpacked"),
        ({"sha256": "0" * 64}, "not what raw.sha256 says"),
    ],
)
def test_damaged_samples_are_refused(change: dict[str, object], why: str) -> None:
    packed = dataclasses.replace(pack({"a": 1}), **change)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match=why):
        unpack(packed)


def test_samples_that_would_swell_beyond_what_they_say_are_not_unpacked() -> None:
    bomb = dataclasses.replace(pack("0" * 50_000_000), bytes=1000)
    assert len(bomb.data) < 100_000
    with pytest.raises(SchemaError, match=r"not what raw\.sha256 says"):
        unpack(bomb)


def test_a_summary_has_no_samples_to_give() -> None:
    with pytest.raises(SchemaError, match="a summary, not a report"):
        dataclasses.replace(report(), raw=None).samples()


def test_a_full_steady_run_with_accuracy_has_no_marks() -> None:
    made = report()
    assert (made.marks, made.warnings) == ((), ())
    assert made.verdict == (
        "9 of 10 images are answered within 18.9 ms (99 % sure: within 18.9 ms) on Test CPU 3000, "
        "engine onnxruntime-cpu, fp16.",
        "The box keeps up with 30 scanner rooms sending 400 slices every 4 minutes; with 31 it fell behind.",
        "Up to 40.0 images a second, arriving at random, are answered within 1 s in 99 of 100 cases.",
        "A pile of images is worked off at 58.8 images a second, 4 at once.",
        "The same engine separates the 50 abnormal from the 50 normal test images of Brain with an AUROC of 92.8 % "
        "(85.2 % to 96.5 %); at its threshold it finds 41 of 50 abnormal and clears 40 of 50 normal.",
        "Energy: 0.740 J an image in single stream (the processor, without memory, disks, fans and power supply).",
    )


@pytest.mark.parametrize(
    ("of", "mark"),
    [
        (setting(rules=Rules.fast(seed=0)), "quick run"),
        (setting(images=dataclasses.replace(IMAGES, synthetic=True)), "synthetic images"),
        (setting(images=dataclasses.replace(IMAGES, used=63)), "few images"),
        (setting(bundle=dataclasses.replace(SETTING.bundle, degraded="half the AUROC")), "degraded bundle"),
    ],
)
def test_a_broken_rule_marks_the_report_not_for_procurement(of: Setting, mark: str) -> None:
    made = report(of)
    assert made.marks == (NOT_FOR_PROCUREMENT, mark)
    assert made.verdict[0].startswith("Not for procurement: ")


def test_a_drifting_machine_is_unstable() -> None:
    drifting = trials(single=trial([value * (1 if index < 500 else 1.5) for index, value in enumerate(even())]))
    made = report(samples=raw(trials=drifting))
    assert made.marks == (NOT_FOR_PROCUREMENT, "unstable")
    assert any("not steady" in warning for warning in made.warnings)


def test_a_noisy_machine_is_unstable_even_if_its_latencies_look_steady() -> None:
    made = report(samples=raw(monitor=monitor(others=1.0)))
    assert made.marks == (NOT_FOR_PROCUREMENT, "unstable")
    assert "other processes used 25.0 % of the processors" in made.warnings
    assert "the machine was disturbed or not steady" in made.verdict[0]


def test_an_engine_that_answers_at_random_is_found() -> None:
    low = raw().score_low
    made = report(samples=raw(score_low=(None if low[0] is None else low[0] - 0.2, *low[1:])))
    assert made.marks == (NOT_FOR_PROCUREMENT, "answers differ")
    assert made.figures.answers.spread == pytest.approx(0.2)


@pytest.mark.parametrize(("precision", "differs"), [("fp32", True), ("fp16", False), ("int8", False)])
def test_half_precision_may_round_a_batch_otherwise_than_an_image_alone(precision: str, differs: bool) -> None:
    low = tuple(None if score is None else score - 0.005 for score in raw().score_low)
    of = setting(engine=dataclasses.replace(SETTING.engine, precision=precision))
    assert ("answers differ" in report(of, raw(score_low=low)).marks) is differs


def test_a_timed_answer_unlike_the_evaluated_one_is_found() -> None:
    other = dataclasses.replace(evaluated(), scores=(0.9, *evaluated().scores[1:]))
    made = report(samples=raw(evaluated=other))
    assert made.figures.answers.gap == pytest.approx(0.8)
    assert "answers differ" in made.marks


def test_without_data_it_says_speed_only() -> None:
    made = report(samples=raw(evaluated=None))
    assert made.marks == ("speed only",)
    assert "Speed only: how right the engine is was not measured in this run." in made.verdict
    assert (made.figures.accuracy.status, made.figures.answers.gap) == ("speed only", None)


def test_accuracy_below_the_manifests_is_a_mark() -> None:
    flat = dataclasses.replace(evaluated(), scores=(0.3,) * 100)
    made = report(samples=raw(evaluated=flat, score_low=(0.3,) * 100, score_high=(0.3,) * 100))
    assert made.marks == ("accuracy below its promise",)


def test_random_weights_are_said_in_mark_and_verdict() -> None:
    made = report(
        setting(bundle=dataclasses.replace(SETTING.bundle, encoder=dataclasses.replace(ENCODER, random=True)))
    )
    assert made.marks == ("random weights",)
    assert made.verdict[-1] == "The encoder's weights are random: scores mean nothing, only speed does."


def test_warnings_name_few_images_refused_ones_and_variation() -> None:
    images = dataclasses.replace(IMAGES, used=63, refused=(RefusedImage("x.png", "the file is empty"),))
    made = report(setting(images=images), raw([10.0, 10.0, 13.0] * 300))
    warned = " | ".join(made.warnings)
    for part in ("only 63 distinct", "1 image(s)", "coefficient of variation 12.9 %"):
        assert part in warned


def test_copies_that_take_longer_than_computing_are_warned_of() -> None:
    slow = trial(even())
    stages = {"decode": (1.0,) * 700, "copy_in": (9.0,) * 700, "compute": (3.0,) * 700, "copy_out": (4.0,) * 700}
    made = report(samples=raw(trials=trials(single=dataclasses.replace(slow, stage_ms=stages))))
    assert "copying takes longer than computing" in made.warnings
    assert made.figures.single.engine_only.min_ms == 16.0
    assert list(made.figures.single.stage_median_ms) == ["decode", "copy_in", "compute", "copy_out", "other"]


def test_what_the_sample_cannot_support_is_null_and_says_what_it_needs() -> None:
    made = report(samples=raw(even(100)))
    p99 = json.loads(made.to_json())["figures"]["single"]["latency"]["percentiles"][2]
    assert (p99["name"], p99["value_ms"], p99["early_stopping_ms"]) == ("p99", None, None)
    assert p99["note"] == "not supported, needs 662 queries"
    made = report(samples=raw(even(63)))
    assert made.verdict[0].startswith(
        "How long 9 of 10 images take can't be said (the run had 63 queries and that needs 64)"
    )


def test_a_server_that_was_not_run_long_enough_promises_nothing() -> None:
    made = report(samples=raw(trials=trials(server=(RateTrial(40.0, open_trial(40.0, 100)),))))
    assert "No rate of random arrivals was shown" in made.verdict[2]
    assert made.figures.server is not None and made.figures.server.held_per_s is None


def test_a_box_behind_one_room_says_so_in_plain_words() -> None:
    made = report(samples=raw(trials=trials(scanner=(rooms_trial(1, 300.0, busy_s=720.0),))))
    assert "The box does not keep up with one scanner room sending 400 slices every 4 minutes." in made.verdict


def test_energy_and_memory_that_were_not_measured_are_said_to_be_so() -> None:
    made = report(samples=raw(monitor=monitor(watts=None), peak_memory_bytes=None))
    assert made.verdict[-1] == "Energy was not measured on this machine."
    assert made.figures.energy.status == "not measured"
    assert MACHINE.memory_bytes is None and NOTICE in made.setting.bundle.notices


def test_every_number_in_the_document_is_finite_json() -> None:
    json.loads(report().to_json(), parse_constant=lambda name: pytest.fail(f"{name} in the report"))
    assert encode(report())["figures"]["quiet"]["others_share"] == 0.0
