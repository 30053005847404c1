"""Detector and Result: the same answer by every way in, and every field the JSON line promises (docs/result.md)."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bundle_edits import edit_manifest
from image_files import grey_as_rgb, noise, saved

from madclip_runtime import Bundle, Detector, MadclipError, Result
from madclip_runtime.errors import BundleRefused, EngineRefused, InputRefused, UsageError
from madclip_runtime.manifest import NOTICE
from madclip_runtime.result import RESULT_FORMAT

KEYS = {
    *("format", "file", "score", "decision", "threshold", "operating_point", "map_max", "head", "image_score", "width"),
    *("score_error", "regions", "orientation", "spacing_mm", "height", "engine", "library", "precision", "bundle"),
    *("bundle_digest", "times_ms", "notes", "notices"),
}
ASKED_FOR = {"file", "score", "decision", "threshold", "map_max", "engine", "precision", "bundle"}
"""What the first users' scripts were promised; these eight may never go or change their meaning."""


@pytest.fixture
def detector(tiny_bundle: Path) -> Detector:
    return Detector.load(tiny_bundle)


def level(value: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width), value, np.uint8)


def same(one: Result, two: Result) -> bool:
    return (one.score, one.decision) == (two.score, two.decision) and np.array_equal(one.model_map, two.model_map)


def test_a_path_its_bytes_and_its_pixels_give_one_answer(detector: Detector, tmp_path: Path) -> None:
    pixels = noise(50, 70)
    path = tmp_path / "scan.png"
    path.write_bytes(saved(pixels, "PNG"))
    answers = [detector(source) for source in (path, str(path), path.read_bytes(), pixels)]
    assert all(same(answers[0], other) for other in answers[1:])
    assert [answer.file for answer in answers] == [str(path), str(path), "image bytes", "pixels"]
    assert detector(path, name="case 7").file == "case 7"


def test_lossless_re_encoding_does_not_move_the_score(detector: Detector) -> None:
    pixels = noise(50, 70)
    files = [saved(pixels, kind, **options) for kind, options in
             (("PNG", {}), ("TIFF", {}), ("BMP", {}), ("PPM", {}), ("WEBP", {"lossless": True}))]  # fmt: skip
    assert len({detector(data).score for data in files}) == 1


def test_grey_pixels_are_read_as_three_equal_channels(detector: Detector) -> None:
    grey = noise()[:, :, 0]
    assert same(detector(grey), detector(grey_as_rgb(grey)))
    assert detector(grey).image.shape == (48, 64, 3)


def test_the_score_is_the_graphs(detector: Detector, tiny: ModuleType) -> None:
    pixels = noise(32, 32)
    scores, maps = tiny.brightness(pixels[None])
    result = detector(pixels)
    assert result.score == pytest.approx(scores[0], abs=1e-6)
    np.testing.assert_allclose(result.model_map, maps[0], atol=1e-6)
    assert result.map_max == result.model_map.max()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((20, 20), np.float32),
        np.zeros((20, 20), np.uint16),
        np.zeros((20, 20), bool),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((3, 20, 20), np.uint8),
        np.zeros((2, 20, 20, 3), np.uint8),
        np.zeros(400, np.uint8),
        np.zeros((7, 20), np.uint8),
        np.zeros((0, 0, 3), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype}{pixels.shape}",
)
def test_other_arrays_are_refused_by_name(detector: Detector, pixels: np.ndarray) -> None:
    with pytest.raises(InputRefused, match=r"^case 7: pixels"):
        detector(pixels, name="case 7")


def test_a_bad_file_is_refused_and_the_next_is_done(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="no such file"):
        detector(tmp_path / "none.png")
    with pytest.raises(InputRefused, match="empty"):
        detector(b"")
    assert detector(level(250)).decision == "abnormal"


def test_the_decision_is_at_or_above_the_threshold(tiny_bundle: Path) -> None:
    exact = float(Detector.load(tiny_bundle)(level(200)).score)
    above = float(np.nextafter(exact, 1))
    decisions = [Detector.load(tiny_bundle, threshold=t)(level(200)).decision for t in (0, exact, above, 1)]
    assert decisions == ["abnormal", "abnormal", "normal", "normal"]


def test_the_operating_point_is_named(tiny_bundle: Path) -> None:
    own, given = Detector.load(tiny_bundle)(level(9)), Detector.load(tiny_bundle, threshold=0.25)(level(9))
    assert (own.threshold, own.operating_point) == (0.5, "test")
    assert (given.threshold, given.operating_point) == (0.25, "given")


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_threshold_no_score_can_meet_is_refused(tiny_bundle: Path, threshold: float) -> None:
    with pytest.raises(UsageError, match="threshold"):
        Detector.load(tiny_bundle, threshold=threshold)


def test_without_a_threshold_nothing_is_decided(tiny: ModuleType, tmp_path: Path) -> None:
    bundle = tiny.write_tiny_bundle(tmp_path / "raw.madclip", threshold=None)
    result = Detector.load(bundle)(level(250))
    assert (result.decision, result.threshold, result.operating_point) == ("uncalibrated", None, None)
    assert result.score > 0.9
    assert Detector.load(bundle, threshold=0.5)(level(250)).decision == "abnormal"


def test_the_map_has_the_images_own_size_and_place(detector: Detector) -> None:
    pixels = level(0, 60, 90)
    pixels[40:, 60:] = 255
    result = detector(pixels)
    assert (result.map.shape, result.map.dtype, result.model_map.shape) == ((60, 90), np.float32, (32, 32))
    assert result.map[55, 85] > 0.95 and result.map[5, 5] < 0.05 and result.map[55, 5] < 0.05


def test_a_turned_file_gets_a_map_that_fits_the_upright_image(detector: Detector) -> None:
    from image_files import oriented

    stored = grey_as_rgb(level(0, 40, 80))
    stored[:20, :20] = 255  # top left as stored, top right when turned by orientation 6
    result = detector(oriented(stored, 6, "PNG"))
    assert result.image.shape == (80, 40, 3) and result.map.shape == (80, 40)
    assert result.map[5, 35] > 0.95 and result.map[5, 5] < 0.05


def test_every_promised_key_and_type(detector: Detector) -> None:
    line = detector(noise(50, 70), name="a.png").to_json()
    assert set(line) == KEYS and set(line) >= ASKED_FOR
    assert (line["format"], line["file"], line["width"], line["height"]) == (RESULT_FORMAT, "a.png", 70, 50)
    assert (line["engine"], line["precision"], line["bundle"]) == ("onnxruntime-cpu", "fp32", "tiny-brightness")
    assert line["bundle_digest"] == detector.bundle.digest and line["image_score"] == "map_max"
    assert all(type(line[key]) is float for key in ("score", "threshold", "map_max"))
    assert set(line["times_ms"]) == {"decode", "preprocess", "compute"}
    assert all(0 <= value < 60_000 for value in line["times_ms"].values())


@pytest.mark.parametrize("threshold", [0.5, None])
def test_the_line_is_strict_json(tiny: ModuleType, tmp_path: Path, threshold: float | None) -> None:
    result = Detector.load(tiny.write_tiny_bundle(tmp_path / "x.madclip", threshold=threshold))(
        noise(), name="é\n\ud800"
    )
    text = json.dumps(result.to_json(), allow_nan=False)
    assert "\n" not in text and json.loads(text) == result.to_json()


def test_every_result_says_what_this_is_not(detector: Detector, tiny_bundle: Path) -> None:
    assert detector(noise()).to_json()["notices"][0] == "research use, not a medical device" == NOTICE
    edit_manifest(tiny_bundle, lambda manifest: manifest.update(notices=[]))
    with pytest.raises(BundleRefused, match="notices must begin"):
        Detector.load(tiny_bundle)


def test_conversions_are_told(detector: Detector) -> None:
    deep = np.full((20, 20), 65535, np.uint16)
    result = detector(saved(deep, "PNG"))
    assert result.score == pytest.approx(1, abs=1e-6)
    assert result.to_json()["notes"] == ["16-bit grey was scaled linearly from 0–65535 to 0–255"]


def test_two_hundred_calls_give_one_answer_bit_for_bit(detector: Detector) -> None:
    data = saved(noise(), "JPEG")
    answers = {(result.score, result.model_map.tobytes()) for result in (detector(data) for _ in range(200))}
    assert len(answers) == 1


def test_an_engine_that_answers_nonsense_yields_no_result(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise EngineRefused("cpu", "outputs from nan to nan instead of 0–1")

    monkeypatch.setattr(detector.engine, "run", broken)
    with pytest.raises(EngineRefused):
        detector(noise())


def test_the_callers_pixels_are_not_changed(detector: Detector) -> None:
    pixels = noise()
    before = pixels.copy()
    detector(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_the_public_names() -> None:
    assert issubclass(BundleRefused, MadclipError)
    assert Bundle.__module__ == "madclip_runtime.bundle" and Detector.__module__ == "madclip_runtime.detector"
    import madclip_runtime

    with pytest.raises(AttributeError):
        _ = madclip_runtime.Nothing


def test_a_result_can_not_be_changed_only_copied(detector: Detector) -> None:
    result = detector(noise())
    with pytest.raises(AttributeError):
        result.score = 0.0  # type: ignore[misc]
    assert replace(result, score=0.0).score == 0.0


def test_the_page_names_every_key() -> None:
    """docs/result.md is what a stranger's script is written from."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "result.md").read_text(encoding="utf-8")
    assert {key for key in KEYS if f"`{key}`" not in page} == set()
