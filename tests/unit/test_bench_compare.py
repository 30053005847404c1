"""`compare`: mismatches refused, ratios paired by image, costs, gates, and its page."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from bench_fakes import SETTING, even, raw, report, setting, trial, trials

from madclip_bench.cli import main
from madclip_bench.compare.comparison import compare_reports, paired_ratio
from madclip_bench.compare.gate import judge, parse_rule
from madclip_bench.compare.metrics import METRICS
from madclip_bench.compare.prices import Box, PriceList, cost_of, read_prices
from madclip_bench.json_schema import FOLDER
from madclip_bench.pages.comparison import comparison_csv, comparison_markdown, comparison_page, comparison_text
from madclip_bench.report import Report
from madclip_bench.rules import Rules
from madclip_runtime.errors import InputRefused, UsageError

BASE = report()


def _scaled(factor: float, **changes: Any) -> Report:
    """The same box, `factor` times as slow at one image at a time."""
    slower = trials(single=trial([round(value * factor, 4) for value in even()]))
    return report(setting(**changes), raw(trials=slower))


OTHER_BUNDLE = dataclasses.replace(SETTING.bundle, digest="b" * 64, model_id="brain-int8", precision="int8")
OTHER_IMAGES = dataclasses.replace(SETTING.images, sha256="9" * 64)


@pytest.mark.parametrize(
    ("change", "what", "why"),
    [
        ({"bundle": OTHER_BUNDLE}, "bundle", "another bundle or head was timed"),
        ({"bundle": dataclasses.replace(SETTING.bundle, head="liver")}, "bundle", "another bundle or head"),
        ({"images": OTHER_IMAGES}, "dataset", "other images"),
        ({"rules": Rules.full(seed=1)}, "rules", "other rules"),
        ({"rules": Rules.fast(seed=0)}, "rules", "other rules"),
    ],
)
def test_what_differs_must_be_named(change: dict[str, Any], what: str, why: str) -> None:
    other = report(setting(**change))
    with pytest.raises(UsageError, match=why) as refused:
        compare_reports([BASE, other], ["a", "b"])
    assert refused.value.do.endswith(f"--across {what}")
    assert compare_reports([BASE, other], ["a", "b"], across=[what]).across == (what,)


def test_every_difference_must_be_named_not_only_one() -> None:
    other = report(setting(bundle=OTHER_BUNDLE, images=OTHER_IMAGES))
    with pytest.raises(UsageError, match="other images") as refused:
        compare_reports([BASE, other], ["a", "b"], across=["bundle"])
    assert refused.value.do.endswith("--across bundle,dataset")


def test_a_mismatch_in_the_third_report_is_found() -> None:
    with pytest.raises(UsageError, match="compare c with a"):
        compare_reports([BASE, BASE, report(setting(rules=Rules.full(seed=2)))], ["a", "b", "c"])


def test_naming_what_does_not_differ_is_no_claim() -> None:
    assert compare_reports([BASE, BASE], ["a", "b"], across=["bundle", "rules"]).across == ()


def test_ratios_are_paired_by_image() -> None:
    found = compare_reports([BASE, _scaled(0.5)], ["a", "b"])
    paired = found.columns[1].paired
    assert paired is not None and found.columns[0].paired is None
    assert (paired.images, paired.ratio) == (100, pytest.approx(0.5, abs=1e-3))
    assert paired.low is not None and paired.low <= paired.ratio
    p50 = next(row for row in found.rows if row.name == "p50")
    assert p50.ratios == (1.0, pytest.approx(0.5, abs=1e-3))


def test_pairing_sees_through_a_change_of_the_images_mix() -> None:
    """Half the images are large and slow. One run drew mostly those: its median doubles, its paired ratio stays 1."""
    generator = np.random.default_rng(0)

    def run(share_of_large: float) -> Any:
        large = generator.random(600) < share_of_large
        order = np.where(large, generator.integers(0, 50, 600), generator.integers(50, 100, 600))
        latencies = [20.0 if index < 50 else 10.0 for index in order]
        of = dataclasses.replace(trial(latencies), order=tuple(int(i) for i in order))
        return raw(trials=trials(single=of))

    few, many = run(0.2), run(0.8)
    assert np.median(many.trials.single.latency_ms) / np.median(few.trials.single.latency_ms) == 2.0
    paired = paired_ratio(many, few)
    assert paired is not None and (paired.ratio, paired.low, paired.high) == (1.0, 1.0, 1.0)


def test_no_shared_image_gives_no_paired_ratio() -> None:
    other = raw(image_sha256=tuple(f"f{i:063x}" for i in range(100)))
    assert paired_ratio(raw(), other) is None
    found = compare_reports([BASE, report(setting(images=OTHER_IMAGES), other)], ["a", "b"], across=["dataset"])
    assert "there is no paired ratio" in next(iter(comparison_text(found)))


def test_too_few_images_give_a_ratio_without_an_interval() -> None:
    few = raw(trials=trials(single=dataclasses.replace(trial([10.0] * 4), order=(0, 1, 2, 3))))
    paired = paired_ratio(few, few)
    assert paired is not None and (paired.images, paired.ratio, paired.low) == (4, 1.0, None)


@pytest.mark.parametrize(
    ("rule", "factor", "failed"),
    [
        ("p99>+10%", 1.2, True),
        ("p99>+10%", 1.05, False),
        ("p50<-10%", 0.5, True),
        ("p99 > 25", 1.2, False),
        ("p99>20", 1.2, True),
        ("offline<-5%", 1.2, False),
        ("image_auroc<0.95", 1.0, True),
        ("image_auroc<0.9", 1.0, False),
        ("rooms<30", 1.0, False),
    ],
)
def test_gates(rule: str, factor: float, failed: bool) -> None:
    found = compare_reports([BASE, _scaled(factor)], ["a", "b"], rules=[parse_rule(rule)])
    assert (found.failed, found.gates[0].failed) == (failed, failed)
    assert found.gates[0].why


def test_a_gate_that_cannot_be_judged_fails() -> None:
    short = report(samples=raw(even(100)))
    verdict = judge(parse_rule("p99>+10%"), BASE, short, "b")
    assert verdict.failed and verdict.why == "p99 is missing, so this can't be judged"
    assert judge(parse_rule("p99>+10%"), short, BASE, "b").failed


@pytest.mark.parametrize("text", ["p99", "p99>10%", "p99>+10", "p98>5", "p99>=5", "p99>+x%", "", "p99>-5"])
def test_what_is_no_rule_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(UsageError, match="is no rule") as refused:
        parse_rule(text)
    assert all(metric.name in refused.value.do for metric in METRICS)


PRICES = PriceList("EUR", 0.30, 5.0, 1_000_000.0, {"a": Box(2000.0, 60.0), "b": Box(900.0, 20.0)})


def test_cost_of_a_thousand_images_is_price_and_electricity_over_all_images() -> None:
    """60 W for five years are 2,629.8 kWh; 1,826 million images at 58.8 a second fit in five years' days."""
    cost = cost_of(BASE, PRICES.boxes["a"], PRICES)
    assert cost.electricity == pytest.approx(788.94)
    assert cost.per_1000_images == pytest.approx((2000 + 788.94) / 1_826_250, abs=1e-4)
    assert cost.note == ""


def test_a_box_that_cannot_do_the_days_images_has_no_price_for_them() -> None:
    busy = dataclasses.replace(PRICES, images_per_day=10_000_000.0)
    cost = cost_of(BASE, PRICES.boxes["a"], busy)
    assert cost.per_1000_images is None and cost.note.startswith("can do 5,082,350 of the 10,000,000")


def test_a_report_without_a_price_is_refused() -> None:
    with pytest.raises(UsageError, match="has no box 'c'"):
        compare_reports([BASE, BASE], ["a", "c"], prices=PRICES)


@pytest.mark.parametrize(
    "change",
    [{"years": 0}, {"images_per_day": -1}, {"tariff_per_kwh": "low"}, {"boxes": {"a": {"purchase": -1, "watts": 1}}}],
)
def test_a_price_list_with_a_fault_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    good = {"currency": "EUR", "tariff_per_kwh": 0.3, "years": 5, "images_per_day": 9, "boxes": {}}
    (tmp_path / "p.json").write_text(json.dumps({**good, **change}))
    with pytest.raises(InputRefused):
        read_prices(str(tmp_path / "p.json"))
    with pytest.raises(InputRefused):
        read_prices(str(tmp_path / "absent.json"))


def test_pages_of_a_comparison() -> None:
    rules = [parse_rule("p99>+10%")]
    found = compare_reports([BASE, _scaled(1.5)], ["a", "b <i>"], rules=rules)
    shown = comparison_page(found)
    assert "<script" not in shown and "http:" not in shown and "b &lt;i&gt;" in shown
    assert "Gate p99&gt;+10% FAILS for b &lt;i&gt;: p99 " in shown and "▼" in shown
    assert "an image takes 1.500 times as long as on a (median of 100 images" in shown
    assert "Latencies of all reports" in shown
    assert "## Figures" in comparison_markdown(found)
    assert comparison_csv(found).splitlines()[0] == "figure,a value,a ratio,b <i> value,b <i> ratio"
    document = json.loads(json.dumps(dataclasses.asdict(found)))
    schema = json.loads((FOLDER / "comparison-1.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)


def test_a_quick_report_stamps_the_comparison() -> None:
    quick = report(setting(rules=Rules.fast(0)))
    assert "Not for procurement: a, b" in comparison_page(compare_reports([quick, quick], ["a", "b"]))


# ---- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    made = {"a.json": BASE, "b.json": _scaled(1.5), "c.json": report(setting(bundle=OTHER_BUNDLE))}
    for name, one in made.items():
        (tmp_path / name).write_bytes(one.to_json())
    return [str(tmp_path / name) for name in made]


def test_the_command_writes_what_was_asked_for(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = {"currency": "EUR", "tariff_per_kwh": 0.3, "years": 5, "images_per_day": 9, "boxes": {}}
    prices["boxes"] = {name: {"purchase": 1000, "watts": 10} for name in ("old", "new")}
    (tmp_path / "prices.json").write_text(json.dumps(prices))
    outputs = [f"--{kind}={tmp_path / f'out.{kind}'}" for kind in ("json", "html", "markdown", "csv")]
    more = ["--names", "old,new", "--prices", str(tmp_path / "prices.json")]
    assert main(["compare", *files[:2], *outputs, *more]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["format"] == "madclip-comparison/1" and last["columns"][1]["name"] == "new"
    assert json.loads((tmp_path / "out.json").read_text()) == last
    assert "Cost of 1,000 images (EUR)" in (tmp_path / "out.html").read_text()


def test_a_gate_that_fails_is_exit_1(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *files[:2], "--fail-if", "p99>+10%", "--fail-if", "p50>1"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 2 and "--fail-if p99>+10% holds for b" in err


def test_a_mismatch_is_exit_2_and_writes_nothing(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", files[0], files[2], "--html", str(tmp_path / "out.html")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "say --across bundle" in err and not (tmp_path / "out.html").exists()
    assert main(["compare", files[0], files[2], "--across", "bundle"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["{a}"], 2),
        (["{a}", "{a}"], 2),
        (["{a}", "{b}", "--names", "x"], 2),
        (["{a}", "{b}", "--across", "weather"], 2),
        (["{a}", "{b}", "--fail-if", "speed"], 2),
        (["{a}", "absent.json"], 3),
        (["{a}", "{b}", "--html", "absent/x.html"], 7),
    ],
)
def test_refusals(arguments: list[str], code: int, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *(text.format(a=files[0], b=files[1]) for text in arguments)]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
