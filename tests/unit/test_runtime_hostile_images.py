"""Reading hostile bytes: one named refusal or honest pixels; never another exception, never another file's pixels."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import cut_files, good_files, noise, odd_but_whole_files, png, saved, unusable_files

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import DecodedImage, read_image

FUZZ = settings(max_examples=200, deadline=None, derandomize=True, database=None)
WHOLE = [file.data for file in good_files() if len(file.data) < 20_000]


def refusal(data: bytes | Path, name: str) -> InputRefused:
    """The refusal this input must give; it is one printable line that names the file."""
    with pytest.raises(InputRefused) as caught:
        read_image(data, name=name)
    line = caught.value.line()
    assert line.startswith(f"{name}: ") and line.isprintable() and caught.value.exit_code == 3
    return caught.value


def honest(data: bytes) -> DecodedImage | None:
    """Pixels of the promised form, or None where a refusal was given; anything else fails the test."""
    try:
        decoded = read_image(data, name="fuzzed")
    except InputRefused as error:
        assert error.line().startswith("fuzzed: ") and error.line().isprintable()
        return None
    assert decoded.pixels.dtype == np.uint8 and decoded.pixels.ndim == 3 and decoded.pixels.shape[2] == 3
    assert min(decoded.pixels.shape[:2]) >= 8
    return decoded


@pytest.mark.parametrize(
    ("name", "data"), cut_files().items(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_cut_file_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    refusal(path, str(path))


@pytest.mark.parametrize("name", unusable_files())
def test_an_unusable_file_is_refused_for_the_right_reason(name: str, tmp_path: Path) -> None:
    data, word = unusable_files()[name]
    path = tmp_path / name
    path.write_bytes(data)
    assert word in refusal(path, name).why


def test_damage_that_a_format_may_not_notice_never_crashes() -> None:
    read = [name for name, data in odd_but_whole_files().items() if honest(data) is not None]
    assert 0 < len(read) < len(odd_but_whole_files())


def test_a_cut_jpeg_after_a_good_one_never_shows_the_good_ones_pixels() -> None:
    good, other = saved(noise(seed=1), "JPEG"), saved(noise(seed=2), "JPEG")
    for _ in range(20):
        assert read_image(good).pixels.shape == (48, 64, 3)
        assert "truncated" in refusal(other[: len(other) // 2], "half.jpg").why


def test_a_header_that_promises_too_much_costs_nothing() -> None:
    bomb = png(60_000, 60_000, 8, 2, b"")
    assert len(bomb) < 80
    start = time.perf_counter()
    assert "limit" in refusal(bomb, "bomb.png").why
    assert time.perf_counter() - start < 3


def test_a_folder_a_missing_file_and_a_pipe(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path, "here").why
    assert "no such file" in refusal(tmp_path / "none.png", "none.png").why
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a plain file" in refusal(tmp_path / "pipe.png", "pipe.png").why


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions do not stop root, so the refusal of the system is put in its place."""
    path = tmp_path / "locked.png"
    path.write_bytes(saved(noise(), "PNG"))

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "Permission denied" in refusal(path, "locked.png").why


def test_a_name_too_long_for_the_system() -> None:
    refusal(Path("x" * 5000 + ".png"), "long.png")


def test_a_hostile_file_name_can_not_reach_a_terminal() -> None:
    with pytest.raises(InputRefused) as caught:
        read_image(b"", name="scan\n\x1b[31mred\x07.png")
    assert caught.value.line() == "scan  [31mred .png: the file is empty (re-export the image from its source)"


def test_a_file_over_the_byte_limit(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(600 * 2**20)
    assert "512 MiB" in refusal(path, "sparse.png").why


@FUZZ
@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    honest(data)


@FUZZ
@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"P5 ", b"RIFF"]), st.binary()
)
def test_any_bytes_after_a_signature(magic: bytes, rest: bytes) -> None:
    honest(magic + rest)


@FUZZ
@given(st.data())
def test_mutated_files(draw: st.DataObject) -> None:
    mutated = bytearray(draw.draw(st.sampled_from(WHOLE)))
    places = st.integers(0, min(len(mutated), 600) - 1) | st.integers(0, len(mutated) - 1)  # headers matter most
    for place, value in draw.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        mutated[place] = value
    end = draw.draw(st.integers(0, len(mutated)) | st.just(len(mutated)))
    honest(bytes(mutated[:end]) + draw.draw(st.binary(max_size=20)))


@pytest.mark.shared
def test_real_crash_files_are_refused_or_read(shared: Path) -> None:
    """Files that once crashed Pillow, libpng, libjpeg: none may crash this, or take long."""
    read, files = [], [path for path in sorted((shared / "images" / "bad").rglob("*")) if path.is_file()]
    for path in files:
        start = time.perf_counter()
        if honest(path.read_bytes()) is not None:
            read.append(path.name)
        assert time.perf_counter() - start < 5
    print(f"{len(files)} files, {len(read)} read: {read}")
    assert len(files) >= 140
    assert len(read) <= 10


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_real_volumes_are_refused_by_name(shared: Path, kind: str) -> None:
    endings = {"dicom": ".dcm", "nifti": ".gz"}
    files = sorted((shared / "images" / kind).rglob(f"*{endings[kind]}"))
    assert len(files) >= 4
    for path in files:
        assert {"dicom": "DICOM", "nifti": "NIfTI"}[kind] in refusal(path, path.name).why
