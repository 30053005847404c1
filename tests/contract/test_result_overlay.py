"""The overlay: calm where the map is calm, marked where it is not, and always saying what it is not."""

import io
from dataclasses import replace

import numpy as np
import pytest
from image_files import noise
from PIL import Image, ImageFont

from madclip_runtime.manifest import NOTICE
from madclip_runtime.overlay import draw_overlay, overlay_png
from madclip_runtime.result import Result

CAPTION = 118
NOTICE_ROWS = slice(82 - CAPTION, 97 - CAPTION)


def result(pixels: np.ndarray, heat: np.ndarray, *, threshold: float | None = 0.5) -> Result:
    """A result as the detector would build it; its score is the map's maximum."""
    score = float(heat.max())
    decision = "uncalibrated" if threshold is None else "abnormal" if score >= threshold else "normal"
    return Result(
        file="scan.png",
        score=score,
        decision=decision,
        threshold=threshold,
        operating_point=None if threshold is None else "balanced",
        map_max=score,
        engine="onnxruntime-cpu",
        library="onnxruntime 1",
        precision="fp32",
        bundle="brain",
        bundle_digest="0" * 64,
        head="brain",
        image_score="map_max",
        image=pixels,
        model_map=heat.astype(np.float32),
        notices=(NOTICE,),
    )


def panels(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    above = picture[:-CAPTION]
    return above[:, : above.shape[1] // 2].astype(int), above[:, above.shape[1] // 2 :].astype(int)


def flat(value: float) -> np.ndarray:
    return np.full((16, 16), value, np.float32)


def hot_corner(value: float = 0.95) -> np.ndarray:
    heat = flat(0.05)
    heat[8:, 8:] = value
    return heat


@pytest.mark.parametrize(
    ("height", "width", "panel"),
    [
        (400, 600, (400, 600)),
        (8, 8, (384, 384)),
        (3000, 2000, (1024, 683)),
        (8, 20_000, (32, 1024)),
        (20_000, 8, (1024, 160)),
    ],
)
def test_size_and_type(height: int, width: int, panel: tuple[int, int]) -> None:
    picture = draw_overlay(result(np.full((height, width, 3), 90, np.uint8), flat(0.4)))
    assert picture.dtype == np.uint8
    assert picture.shape == (panel[0] + CAPTION, 2 * panel[1], 3)


def test_the_file_is_a_png_of_the_same_pixels() -> None:
    made = result(noise(64, 64), hot_corner())
    with Image.open(io.BytesIO(overlay_png(made))) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), draw_overlay(made))


@pytest.mark.parametrize("level", [0.0, 0.1, 0.2])
def test_a_calm_map_leaves_the_image_alone(level: float) -> None:
    plain, marked = panels(draw_overlay(result(noise(400, 400), flat(level))))
    assert np.abs(plain - marked).max() <= 1


def test_colours_are_not_stretched_per_image() -> None:
    """The same shape of map, once between 0 and 0.2 and once between 0 and 0.95: only the second may stand out."""
    plain, faint = panels(draw_overlay(result(np.full((400, 400, 3), 90, np.uint8), hot_corner(0.2))))
    assert np.abs(plain - faint).max() <= 1
    plain, strong = panels(draw_overlay(result(np.full((400, 400, 3), 90, np.uint8), hot_corner(0.95))))
    assert np.abs(plain - strong)[300:, 300:].mean() > 30
    assert np.abs(plain - strong)[:150, :150].max() <= 1


def outlined(made: Result) -> np.ndarray:
    """Where the marked panel is nearly white, which neither the grey image nor the colours are: bool [h, w]."""
    nearly: np.ndarray = panels(draw_overlay(made))[1].min(axis=2) > 200
    return nearly


def test_the_region_over_the_threshold_gets_a_line_around_it() -> None:
    line = outlined(result(np.full((400, 400, 3), 90, np.uint8), hot_corner()))
    assert line.any() and not line[:180, :180].any()
    rows, columns = np.nonzero(line)
    assert 180 <= rows.min() <= 220 and 180 <= columns.min() <= 220  # the hot quarter begins at 200


def test_no_line_without_a_threshold_below_it_or_where_the_score_is_another() -> None:
    dark = np.full((400, 400, 3), 90, np.uint8)
    hot = result(dark, hot_corner())
    assert not outlined(result(dark, hot_corner(), threshold=None)).any()
    assert not outlined(result(dark, hot_corner(), threshold=0.99)).any()
    assert not outlined(replace(hot, image_score="det")).any()


def notice_as_drawn() -> np.ndarray:
    """The notice alone, in the caption's font and colours: uint8 [15, its width, 3]."""
    from PIL import ImageDraw

    font = ImageFont.load_default(13)
    canvas = Image.new("RGB", (int(font.getlength(NOTICE)), CAPTION), (24, 24, 24))
    ImageDraw.Draw(canvas).text((0, 82), NOTICE, fill=(235, 235, 235), font=font)
    return np.asarray(canvas)[NOTICE_ROWS]


@pytest.mark.parametrize("shape", [(8, 8), (8, 5000), (5000, 8), (240, 240)])
@pytest.mark.parametrize("more", [(), ("x" * 10_000,), ("line\nbreak",)])
def test_what_this_is_not_stands_on_every_overlay(shape: tuple[int, int], more: tuple[str, ...]) -> None:
    made = replace(result(noise(*shape), hot_corner()), notices=(NOTICE, *more))
    wanted = notice_as_drawn()[:, :-3]  # its last stroke may touch the next character
    found = draw_overlay(made)[NOTICE_ROWS, 12 : 12 + wanted.shape[1]]
    assert wanted.std() > 20  # there is ink in it
    np.testing.assert_array_equal(found, wanted)


def test_a_bundles_name_can_not_paint_over_the_notice() -> None:
    made = replace(result(noise(64, 64), hot_corner()), bundle="a\n" + "M" * 90)
    wanted = notice_as_drawn()[:, :-3]
    np.testing.assert_array_equal(draw_overlay(made)[NOTICE_ROWS, 12 : 12 + wanted.shape[1]], wanted)


@pytest.mark.parametrize("text", ["x" * 100_000, "a\nb\x1b[31m\ttext", "", "\u202e\ud800", "\N{BRAIN}" * 300])
def test_a_strangers_texts_neither_overflow_nor_stop_the_drawing(text: str) -> None:
    made = replace(result(noise(64, 64), hot_corner()), file=text, bundle=text, operating_point=text, engine=text)
    picture = draw_overlay(replace(made, notices=(NOTICE, text)))
    assert picture.shape == (384 + CAPTION, 768, 3)
    assert (picture[-CAPTION:, -12:] == 24).all(axis=2)[60:].all()  # the margin right of the lines stays empty


@pytest.mark.parametrize("decision", ["normal", "abnormal", "uncalibrated"])
def test_the_decision_fits_the_narrowest_overlay(decision: str) -> None:
    picture = draw_overlay(replace(result(noise(5000, 8), hot_corner()), decision=decision))
    assert picture.shape[1] == 320
    assert (picture[-CAPTION:, -12:] == 24).all(axis=2)[:36].all()


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0, 1.001, -0.001])
def test_the_bar_is_as_long_as_the_score(score: float) -> None:
    made = replace(result(noise(64, 64), flat(0.0), threshold=None), score=score)
    row = draw_overlay(made)[47 - CAPTION, 13:-13]
    filled = (row == (124, 123, 120)).all(axis=1).sum()
    assert abs(filled - len(row) * min(max(score, 0), 1)) <= 2


def test_the_same_result_gives_the_same_bytes() -> None:
    made = result(noise(64, 64), hot_corner())
    assert overlay_png(made) == overlay_png(made)
