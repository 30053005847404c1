"""The pages: self-contained, escaped, the same for the same report, and saying what the JSON says."""

import csv
import dataclasses
import io
import re
from html.parser import HTMLParser

import pytest
from bench_fakes import SETTING, evaluated, even, monitor, raw, report, setting, trial, trials

from madclip_bench.pages.csv import figures_csv, leaves
from madclip_bench.pages.html import page
from madclip_bench.pages.markdown import markdown
from madclip_bench.pages.svg import Frame, ticks
from madclip_bench.pages.text import lines
from madclip_bench.report import Report
from madclip_bench.rules import Rules
from madclip_bench.words import duration, megabytes, milliseconds, per_second, significant

HOSTILE = '<script src="https://x.example/a.js">alert(1)</script> | *bold* `code`'
OUTSIDE = re.compile(r"https?:|//[a-z]|url\(|@import|<script|<iframe|<img|<object|\bon[a-z]+=", re.IGNORECASE)


class Balanced(HTMLParser):
    """Every element is closed, ids are unique."""

    VOID = frozenset({"meta", "link", "br", "line", "rect", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html() -> str:
    return page(report())


def test_nothing_outside_and_no_script(html: str) -> None:
    assert not OUTSIDE.search(html)
    assert "default-src 'none'" in html and len(html) < 200_000


def test_it_is_well_formed_with_unique_ids(html: str) -> None:
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids) > 10


def test_it_opens_with_the_verdict_then_the_method_then_the_limits(html: str) -> None:
    made = report()
    places = [html.index(sentence.replace("'", "&#x27;")) for sentence in made.verdict]
    assert places == sorted(places)
    after = ("How it was measured", "What this report does not say", "One image at a time", "The bundle and its engine")
    order = [places[-1], *(html.index(f"<h2>{title}") for title in after)]
    assert order == sorted(order)
    assert made.digest in html


def test_the_same_report_gives_the_same_page(html: str) -> None:
    assert page(Report.from_json(report().to_json())) == html


def test_every_chart_is_there_and_named(html: str) -> None:
    names = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', html)
    for name in (
        "Histogram of latencies",
        "Latency against rarity",
        "Latency of each query in turn",
        "Stages of one image",
        "Throughput against images at once",
        "p99 against rate",
        "Exams",
        "Temperature, cpu-thermal",
        "Processor clock",
        "Power, package-0",
        "Processors used by others",
    ):
        assert name in names
    assert "NaN" not in html and "inf" not in re.sub(r"[a-z]*inf[a-z]+", "", html)


def test_a_quick_run_is_stamped_on_screen_and_on_every_printed_sheet() -> None:
    quick = page(report(setting(rules=Rules.fast(seed=0))))
    stamp = "Not for procurement: a quick run, too short for its figures to be relied on"
    assert f'<p class="stamp">{stamp}</p>' in quick
    assert f'<thead><tr><td aria-hidden="true">{stamp}</td></tr></thead>' in quick
    assert 'class="sheet"' not in page(report())


def test_what_a_bundle_says_of_itself_cannot_become_markup() -> None:
    bundle = dataclasses.replace(SETTING.bundle, model_id=HOSTILE, notices=(HOSTILE,))
    made = report(setting(bundle=bundle, machine=dataclasses.replace(SETTING.machine, cpu=HOSTILE)))
    assert not OUTSIDE.search(page(made).replace("https://x.example", "").replace("//x.example", ""))
    assert "<script" not in page(made)
    text = markdown(made)
    assert "<script" not in text.replace("\\<script", "")
    assert "\\| \\*bold\\* \\`code\\`" in text


@pytest.mark.parametrize(
    "samples",
    [
        raw(
            even(1),
            evaluated=None,
            starts=(),
            delivery=None,
            monitor=dataclasses.replace(monitor(), at_s=(), columns={}),
        ),
        raw(
            [20.0] * 5,
            trials=trials(single=trial([20.0] * 5), multi=None, offline=None, sweep=(), server=(), scanner=()),
        ),
        raw([0.01, 7000.0] * 400, evaluated=evaluated(masks=False)),
    ],
    ids=["hardly anything", "all alike", "a wild tail"],
)
def test_odd_runs_still_make_a_page(samples) -> None:  # type: ignore[no-untyped-def]
    made = report(samples=samples)
    parser = Balanced()
    parser.feed(page(made))
    assert parser.open == [] and "NaN" not in page(made)
    assert markdown(made) and lines(made) and figures_csv(made)


def test_tables_say_what_was_not_measured() -> None:
    bare = report(samples=raw(even(100), evaluated=None, monitor=monitor(watts=None)))
    shown = page(bare)
    for words in ("not supported, needs 662 queries", "Speed only: no --data was given", "Not measured: "):
        assert words in shown and words in markdown(bare)


def test_markdown_has_the_same_tables(html: str) -> None:
    titles = re.findall(r"<h2>([^<]+)</h2>", html)
    text = markdown(report())
    for title in titles:
        if title != "Words":
            assert f"## {title}" in text
    assert "Research use, not a medical device." in text


def test_csv_holds_every_figure_by_its_path() -> None:
    made = report()
    rows = dict(list(csv.reader(io.StringIO(figures_csv(made))))[1:])
    assert rows["figures.single.latency.percentiles[1].value_ms"] == "18.89"
    assert rows["figures.scanner.rooms"] == "30"
    assert rows["setting.machine.physical_cores"] == ""
    assert len(rows) > 200 and not any(path.startswith("raw") for path in rows)


def test_csv_hands_no_formula_to_a_spreadsheet() -> None:
    bundle = dataclasses.replace(SETTING.bundle, model_id='=HYPERLINK("x")')
    assert "'=HYPERLINK" in figures_csv(report(setting(bundle=bundle)))


def test_leaves_name_every_path() -> None:
    assert dict(leaves({"a": [1, {"b": None}], "c": {}}, "")) == {"a[0]": 1, "a[1].b": None}


def test_the_terminal_reads_the_verdict_first() -> None:
    said = lines(report(setting(rules=Rules.fast(0))))
    assert said[0].startswith("Not for procurement: a quick run")
    assert said[1].startswith("9 of 10 images are answered within")
    assert said[-1].startswith("digest ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (23.66, "23.7"),
        (0.09712, "0.0971"),
        (1234.5, "1,230"),
        (999.9, "1,000"),
        (0.001, "0.00100"),
        (5.0, "5.00"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_words_for_times_rates_and_sizes() -> None:
    assert (milliseconds(23.66), milliseconds(1234.0)) == ("23.7 ms", "1.23 s")
    assert (duration(240.0), duration(60.0), duration(1.0), duration(0.25)) == (
        "4 minutes",
        "1 minute",
        "1 s",
        "250 ms",
    )
    assert (per_second(12.34), per_second(0.5)) == ("12.3 images a second", "30.0 images a minute")
    assert (megabytes(None), megabytes(1.3e9)) == ("not measured", "1,300 MB")


def test_axes_count_in_round_steps() -> None:
    words = "".join(ticks(Frame(100, 0.0, 47.0, 0.0, 0.93), str, str))
    assert ">0.5<" in words and ">40.0<" in words
    assert ticks(Frame(100, 1.0, 1.0, 2.0, 2.0), str, str)
