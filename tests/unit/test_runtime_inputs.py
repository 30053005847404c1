"""Which files a call means: lists, patterns, stdin, names that meet."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import noise, saved

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import DecodedImage
from madclip_runtime.inputs import Finder, listed
from madclip_runtime.naming import Names


def test_a_list_is_divided_by_lines_or_by_nul() -> None:
    assert list(listed(io.BytesIO(b"a.png\nb c.png\r\n\n  d\n"))) == ["a.png", "b c.png", "  d"]
    assert list(listed(io.BytesIO(b"a.png\0b\nc.png\0"))) == ["a.png", "b\nc.png"]
    assert list(listed(io.BytesIO(b""))) == []
    assert list(listed(io.BytesIO(b"not-utf8-\xff.png"))) == [os.fsdecode(b"not-utf8-\xff.png")]


def test_a_list_is_read_as_it_comes() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as source, os.fdopen(write, "wb", buffering=0) as sink:
        lines = listed(source)
        sink.write(b"first.png\n")
        assert next(lines) == "first.png"


def test_patterns_are_sorted_and_an_existing_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b1.png", "a1.png", "c2.png", "deep/d1.png", "odd[1].png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    finder = Finder(Path("out"))
    assert [job.name for job in finder.jobs(["*1.png"])] == ["a1.png", "b1.png"]
    assert [job.name for job in finder.jobs(["**/*1.png"])] == ["a1.png", "b1.png", "deep/d1.png"]
    assert [job.name for job in finder.jobs(["odd[1].png"])] == ["odd[1].png"]
    (none,) = finder.jobs(["z*.png"])
    assert none.refusal is not None and none.refusal.why == "nothing matches it"
    with pytest.raises(InputRefused):
        none.load()


def test_one_file_on_stdin(tmp_path: Path) -> None:
    (job,) = Finder(tmp_path, stdin=io.BytesIO(saved(noise(), "PNG"))).jobs(["-"])
    frame = job.load()
    assert isinstance(frame, DecodedImage) and frame.pixels.shape == (48, 64, 3)
    assert (job.name, job.stem) == ("stdin", tmp_path / "stdin")
    (empty,) = Finder(tmp_path, stdin=io.BytesIO()).jobs(["-"])
    with pytest.raises(InputRefused, match="stdin: the file is empty"):
        empty.load()


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(["a", "A", "a-2", "a-3", "b", "x" * 300, "\N{BRAIN}" * 99]), max_size=12))
def test_no_two_stems_are_alike_whatever_the_letter_case(names: list[str]) -> None:
    given_out = Names()
    stems = [str(given_out.free(Path("out") / name)).casefold() for name in names]
    assert len(set(stems)) == len(names)
    assert all(len(os.fsencode(Path(stem).name)) < 200 for stem in stems)


def test_a_dicom_name_that_is_a_uid_keeps_its_last_part(tmp_path: Path) -> None:
    for name in ("CT.1.2.3", "CT.1.2.4", "scan.dcm", "x.nii.txt"):
        (tmp_path / name).touch()
    names = [str(tmp_path / name) for name in ("CT.1.2.3", "CT.1.2.4", "scan.dcm", "x.nii.txt")]
    assert [job.stem.name for job in Finder(Path("out")).jobs(names)] == ["CT.1.2.3", "CT.1.2.4", "scan", "x.nii.txt"]
