"""`verify` finds what was changed: twenty single edits, as they are and with the digest mended after them."""

import base64
import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench_fakes import report

from madclip_bench.cli import main
from madclip_bench.integrity import code_sha256, digest_of, pack
from madclip_bench.pages.html import page
from madclip_bench.verify import check

Document = dict[str, Any]


@pytest.fixture(scope="module")
def honest() -> Document:
    return json.loads(report().to_json())  # type: ignore[no-any-return]


def _set(*path: str | int, to: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        holder: Any = document
        for key in path[:-1]:
            holder = holder[key]
        assert holder[path[-1]] != to
        holder[path[-1]] = to

    return change


SINGLE = ("figures", "single")
EDITS: dict[str, Callable[[Document], None]] = {
    "p90": _set(*SINGLE, "latency", "percentiles", 1, "value_ms", to=11.0),
    "p99's bound": _set(*SINGLE, "latency", "percentiles", 2, "early_stopping_ms", to=18.0),
    "an unsupported percentile": _set(*SINGLE, "latency", "percentiles", 3, "value_ms", to=19.0),
    "its note": _set(*SINGLE, "latency", "percentiles", 3, "note", to=""),
    "mean": _set(*SINGLE, "latency", "mean_ms", to=17.0),
    "slowest": _set(*SINGLE, "latency", "max_ms", to=18.5),
    "query count": _set(*SINGLE, "latency", "queries", to=7000),
    "a stage": _set(*SINGLE, "stage_median_ms", "compute", to=1.0),
    "throughput": _set("figures", "offline", "images_per_s", to=88.2),
    "stability": _set("figures", "offline", "stability", "window_spread", to=0.001),
    "server rate": _set("figures", "server", "held_per_s", to=44.0),
    "scanner rooms": _set("figures", "scanner", "rooms", to=31),
    "image AUROC": _set("figures", "accuracy", "image_auroc", "value", to=0.91),
    "pixel AUROC": _set("figures", "accuracy", "pixel_auroc", "auroc", "value", to=0.99),
    "sensitivity": _set("figures", "accuracy", "sensitivity", "k", to=50),
    "energy": _set("figures", "energy", "sources", 0, "scenarios", "single", "joules_per_image", to=0.5),
    "memory": _set("figures", "peak_memory_bytes", to=900_000_000),
    "cold start": _set("figures", "starts", "kinds", 1, "total_ms", to=300.0),
    "a mark": _set("marks", to=["speed only"]),
    "the verdict": _set("verdict", 1, to="The box keeps up with 60 scanner rooms."),
}


def _write(document: Document) -> bytes:
    return json.dumps(document).encode()


def test_an_honest_report_holds(honest: Document) -> None:
    found = check(_write(honest))
    assert (found.faults, found.digest) == ((), honest["digest"])
    assert found.figures > 200


def test_there_are_twenty_edits_and_each_is_one() -> None:
    assert len(EDITS) == 20


@pytest.mark.parametrize("name", EDITS)
def test_each_of_twenty_edits_is_found(honest: Document, name: str) -> None:
    edited = copy.deepcopy(honest)
    EDITS[name](edited)
    faults = check(_write(edited)).faults
    assert faults[0].startswith("digest: the file says")
    assert len(faults) >= 2  # and the samples contradict it by name


@pytest.mark.parametrize("name", EDITS)
def test_each_is_found_even_when_the_digest_was_mended(honest: Document, name: str) -> None:
    edited = copy.deepcopy(honest)
    EDITS[name](edited)
    edited["digest"] = digest_of(edited)
    faults = check(_write(edited)).faults
    assert faults and not any(fault.startswith("digest") for fault in faults)
    assert all("the samples give" in fault for fault in faults)


@pytest.mark.parametrize(
    "path",
    [
        ("setting", "machine", "cpu"),
        ("setting", "bundle", "precision"),
        ("setting", "started_utc"),
        ("setting", "code_sha256"),
        ("raw", "sha256"),
    ],
)
def test_an_edited_setting_breaks_the_digest(honest: Document, path: tuple[str, ...]) -> None:
    edited = copy.deepcopy(honest)
    _set(*path, to="another")(edited)
    assert check(_write(edited)).faults[0].startswith("digest")


def test_an_added_key_breaks_the_digest(honest: Document) -> None:
    assert check(_write({**honest, "certified": True})).faults


def _with_samples(document: Document, change: Callable[[Any], None]) -> Document:
    samples = json.loads(zlib.decompress(base64.b64decode(document["raw"]["data"])))
    change(samples)
    packed = pack(samples)
    return {**document, "raw": {**document["raw"], **vars(packed)}}


def test_an_edited_sample_contradicts_the_figures(honest: Document) -> None:
    edited = _with_samples(honest, lambda samples: samples["trials"]["single"]["latency_ms"].__setitem__(5, 400.0))
    edited["digest"] = digest_of(edited)
    faults = check(_write(edited)).faults
    assert any(fault.startswith("figures.single.latency.max_ms: says 18.99") for fault in faults)


@pytest.mark.parametrize(
    "change",
    [
        lambda samples: samples["trials"]["single"].update(latency_ms=[]),
        lambda samples: samples["trials"]["single"].pop("order"),
        lambda samples: samples.update(trials=None),
        lambda samples: samples["evaluated"].update(abnormal=[True] * 100),
        lambda samples: samples["evaluated"]["pixels"]["lesion"].update(at=[10**9]),
        lambda samples: samples["monitor"].update(at_s=[1.0]),
    ],
)
def test_samples_that_break_the_arithmetic_are_a_fault_not_a_crash(
    honest: Document, change: Callable[[Any], None]
) -> None:
    edited = _with_samples(honest, change)
    edited["digest"] = digest_of(edited)
    assert check(_write(edited)).faults


def test_a_consistent_forgery_is_caught_only_by_the_digest_that_was_written_down(honest: Document) -> None:
    """What the docs say: nothing signs a report. Who wrote the digest down still finds it."""
    from madclip_bench.building import build
    from madclip_bench.report import Report

    forged = _with_samples(
        honest,
        lambda samples: samples["trials"]["single"].update(
            latency_ms=[value / 2 for value in samples["trials"]["single"]["latency_ms"]]
        ),
    )
    read = Report.from_json(_write({**forged, "digest": ""}))
    consistent = build(read.setting, read.samples()).to_json()
    assert check(consistent).faults == ()
    (fault,) = check(consistent, expected_digest=honest["digest"]).faults
    assert fault.startswith("digest: the run printed")


def test_other_code_is_a_note(honest: Document) -> None:
    (note,) = check(_write(honest)).notes
    assert "cccccccccccccccc" in note
    assert len(code_sha256()) == 64 and code_sha256() == code_sha256()


# ---- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_bytes(report().to_json())
    return path


def test_the_command_says_yes_with_0(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "page.html").write_text(page(report()), encoding="utf-8")
    digest = report().digest
    assert main(["verify", str(file), "--digest", digest, "--page", str(file.parent / "page.html")]) == 0
    out, err = capsys.readouterr()
    last = json.loads(out.splitlines()[-1])
    assert last["holds"] is True and last["digest"] == digest and last["values"] > 200
    assert out.startswith("as it was made; ") and "other code" in err


def test_the_command_says_no_with_1_and_names_the_path(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(file.read_text().replace('"rooms": 30', '"rooms": 33', 1))
    assert main(["verify", str(file)]) == 1
    out = capsys.readouterr().out
    assert "figures.scanner.rooms: says 33, the samples give 30" in out
    assert json.loads(out.splitlines()[-1])["holds"] is False


def test_a_page_that_was_edited_is_found(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = file.parent / "page.html"
    html.write_text(page(report()).replace("18.9 ms", "11.9 ms", 1), encoding="utf-8")
    assert main(["verify", str(file), "--page", str(html)]) == 1
    assert "page.html is not this report's page; line" in capsys.readouterr().out


def test_another_bundle_is_found(file: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(file), "--bundle", str(tiny_bundle)]) == 1
    assert "bundle: tiny.madclip has digest" in capsys.readouterr().out


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format": "madclip-report/1"}'])
def test_what_is_no_report_is_refused_with_3(file: Path, data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_bytes(data)
    assert main(["verify", str(file)]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert main(["verify", str(file.parent / "absent.json")]) == 3
