"""The phantoms: the same everywhere, exact about their lesions, and without a cheap way to tell them apart."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from madclip import phantoms
from madclip.phantoms import Phantom, make_phantom, write_phantoms
from madclip_runtime.errors import OutputNotWritten, UsageError

Grey = npt.NDArray[np.uint8]


def _twin(seed: int, index: int, size: int) -> Phantom:
    """The abnormal phantom with its lesion left out and all else, noise too, the same."""
    return phantoms._render(seed, index, True, size, show_lesion=False)


def _grown(mask: npt.NDArray[np.bool_], pixels: int) -> npt.NDArray[np.bool_]:
    """The mask and all within `pixels` of it along rows and columns."""
    padded = np.pad(mask, pixels)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * pixels + 1, 2 * pixels + 1))
    return np.asarray(windows.any(axis=(2, 3)))


def _auroc(normal: npt.NDArray[np.float64], abnormal: npt.NDArray[np.float64]) -> float:
    above = (abnormal[:, None] > normal[None, :]).mean()
    return float(above + 0.5 * (abnormal[:, None] == normal[None, :]).mean())


@pytest.mark.parametrize("abnormal", [False, True])
def test_same_arguments_give_the_same_phantom(abnormal: bool) -> None:
    first, second = (make_phantom(3, 5, abnormal=abnormal, size=96) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)


def test_every_argument_matters() -> None:
    base = make_phantom(3, 5, abnormal=False, size=96).image
    for other in (
        make_phantom(4, 5, abnormal=False, size=96),
        make_phantom(3, 6, abnormal=False, size=96),
        _twin(3, 5, size=96),  # another head altogether, not the normal one with a lesion put in
    ):
        # More than other noise, which moves a pixel by 5 grey levels or so.
        assert np.abs(base.astype(np.float64) - other.image).mean() > 10


def test_stream_is_pinned() -> None:
    # Loose enough for another machine's rounding, tight enough to notice another random stream.
    normal, abnormal = make_phantom(0, 0, abnormal=False), make_phantom(0, 0, abnormal=True)
    assert normal.image.mean() == pytest.approx(34.836, abs=0.02)
    assert abnormal.image.mean() == pytest.approx(38.612, abs=0.02)
    assert abs(int(abnormal.mask.sum()) - 523) <= 2


def test_image_does_not_depend_on_how_many_are_written(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "few", normal=1, abnormal=1, seed=9, size=64)
    write_phantoms(tmp_path / "more", normal=4, abnormal=3, seed=9, size=64)
    for name in ("good/img/normal_0000.png", "Ungood/img/lesion_0000.png"):
        few, more = (Image.open(tmp_path / home / "valid" / name) for home in ("few", "more"))
        assert np.array_equal(np.asarray(few), np.asarray(more))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    index=st.integers(0, 10**6),
    size=st.integers(64, 150),
    abnormal=st.booleans(),
)
def test_shape_type_and_range(seed: int, index: int, size: int, abnormal: bool) -> None:
    phantom = make_phantom(seed, index, abnormal=abnormal, size=size)
    assert phantom.image.shape == phantom.mask.shape == (size, size)
    assert phantom.image.dtype == np.uint8
    assert phantom.mask.dtype == np.bool_
    # A head on a black ground, neither empty nor overexposed.
    assert 0.2 < (phantom.image > 40).mean() < 0.75
    assert (phantom.image == 255).mean() < 0.02
    assert phantom.image[0].mean() < 15
    if abnormal:
        assert 0.003 < phantom.mask.mean() < 0.045
    else:
        assert not phantom.mask.any()


@pytest.mark.parametrize("index", range(12))
def test_lesion_is_where_the_mask_says_and_nowhere_else(index: int) -> None:
    seen, healthy = make_phantom(1, index, abnormal=True, size=120), _twin(1, index, 120)
    changed = seen.image != healthy.image
    assert np.array_equal(seen.mask, healthy.mask)
    assert changed[seen.mask].all()
    # The soft edge reaches at most 2.5 % of the side beyond the mask: 3 pixels of 120.
    assert not changed[~_grown(seen.mask, 3)].any()
    assert np.mean(changed & ~seen.mask) < seen.mask.mean() + 0.01


@pytest.mark.parametrize("index", range(12))
def test_lesion_lies_in_tissue(index: int) -> None:
    mask = make_phantom(1, index, abnormal=True, size=120).mask
    signal, room = phantoms._anatomy(np.random.default_rng([1, index, 1]), 120)
    assert room[mask].min() >= 0.75
    # Seen without knowledge of the room: mostly tissue, where fluid and bone are below 0.2.
    assert (signal[mask] > 0.25).mean() > 0.6


def test_lesions_vary_from_subtle_to_plain_and_some_are_dark() -> None:
    steps = []
    for index in range(40):
        seen, healthy = make_phantom(2, index, abnormal=True, size=128), _twin(2, index, 128)
        step = seen.image.astype(np.float64) - healthy.image
        steps.append(step[seen.mask].mean())
    dark = np.mean(np.array(steps) < 0)
    assert 0.02 < dark < 0.4
    assert np.min(np.abs(steps)) < 20
    assert np.max(steps) > 45


@pytest.fixture(scope="module")
def both_classes() -> tuple[list[Grey], list[Grey]]:
    normal = [make_phantom(0, index, abnormal=False, size=128).image for index in range(40)]
    return normal, [make_phantom(0, index, abnormal=True, size=128).image for index in range(40)]


GIVE_AWAYS: dict[str, Callable[[Grey], float]] = {
    "mean intensity": lambda image: float(image.mean()),
    "max intensity": lambda image: float(image.max()),
    "99th percentile": lambda image: float(np.percentile(image, 99)),
    "spread": lambda image: float(image.std()),
    "foreground area": lambda image: float((image > 40).mean()),
}


@pytest.mark.parametrize("name", GIVE_AWAYS)
def test_no_trivial_give_away(name: str, both_classes: tuple[list[Grey], list[Grey]]) -> None:
    normal, abnormal = (np.array([GIVE_AWAYS[name](image) for image in images]) for images in both_classes)
    assert 0.25 < _auroc(normal, abnormal) < 0.75


def test_lesion_rarely_holds_the_brightest_pixel() -> None:
    wins = 0
    for index in range(30):
        phantom = make_phantom(4, index, abnormal=True, size=128)
        wins += int(phantom.image[phantom.mask].max() >= phantom.image[~phantom.mask].max())
    assert wins <= 6


def test_layout(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "set"
    made = write_phantoms(out, normal=3, abnormal=4, seed=7, size=64)
    assert (made.root, made.valid, made.test) == (out, (2, 2), (1, 2))
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == sorted(
        [
            "phantoms.json",
            "valid/good/img/normal_0000.png",
            "valid/good/img/normal_0001.png",
            "test/good/img/normal_0002.png",
            *(f"valid/Ungood/{kind}/lesion_000{k}.png" for kind in ("img", "anomaly_mask") for k in (0, 1)),
            *(f"test/Ungood/{kind}/lesion_000{k}.png" for kind in ("img", "anomaly_mask") for k in (2, 3)),
        ]
    )


def test_files_read_back(tmp_path: Path) -> None:
    write_phantoms(tmp_path, normal=1, abnormal=2, seed=7, size=80)
    phantom = make_phantom(7, 1, abnormal=True, size=80)
    image = Image.open(tmp_path / "test" / "Ungood" / "img" / "lesion_0001.png")
    mask = Image.open(tmp_path / "test" / "Ungood" / "anomaly_mask" / "lesion_0001.png")
    assert image.mode == mask.mode == "L"
    assert np.array_equal(np.asarray(image), phantom.image)
    assert np.array_equal(np.asarray(mask), np.where(phantom.mask, 255, 0))


def test_each_file_says_that_it_is_synthetic(tmp_path: Path) -> None:
    write_phantoms(tmp_path, normal=2, abnormal=2, seed=7, size=64)
    for path in tmp_path.rglob("*.png"):
        with Image.open(path) as image:
            assert image.info["Description"] == "synthetic phantom, not a patient"
    assert json.loads((tmp_path / "phantoms.json").read_text(encoding="utf-8")) == {
        "synthetic": True,
        "generator": "madclip phantoms",
        "seed": 7,
        "normal": 2,
        "abnormal": 2,
        "size": 64,
        "notice": "synthetic phantoms, not patients",
    }


def test_split_that_gets_no_image_still_has_its_folders(tmp_path: Path) -> None:
    assert write_phantoms(tmp_path, normal=1, abnormal=1, seed=0, size=64).test == (0, 0)
    for folder in ("good/img", "Ungood/img", "Ungood/anomaly_mask"):
        assert (tmp_path / "test" / folder).is_dir()


def test_used_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    for out in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(OutputNotWritten, match="not an empty folder"):
            write_phantoms(out, normal=1, abnormal=1, seed=0, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "keep"


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = phantoms._write_png, iter(range(3))

    def fills_up(path: Path, grey: Grey) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, grey)

    monkeypatch.setattr(phantoms, "_write_png", fills_up)
    with pytest.raises(OutputNotWritten, match="No space left on device"):
        write_phantoms(tmp_path / "set", normal=2, abnormal=2, seed=0, size=64)
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputNotWritten):
        write_phantoms(tmp_path / "file" / "set", normal=1, abnormal=1, seed=0, size=64)


@pytest.mark.parametrize(
    "change", [{"normal": 0}, {"abnormal": 0}, {"normal": -1}, {"size": 63}, {"seed": -1}], ids=str
)
def test_impossible_sets_are_refused_before_anything_is_made(tmp_path: Path, change: dict[str, int]) -> None:
    asked = {"normal": 1, "abnormal": 1, "seed": 0, "size": 64} | change
    with pytest.raises(UsageError):
        write_phantoms(tmp_path / "set", **asked)
    assert not list(tmp_path.iterdir())


def test_impossible_phantoms_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 64"):
        make_phantom(0, 0, abnormal=False, size=32)
    with pytest.raises(UsageError, match="negative"):
        make_phantom(0, -1, abnormal=False)
