"""Files written whole, refusals as one line, and which files a call means."""

import os
from pathlib import Path

import pytest

from madclip_runtime import files as files_module
from madclip_runtime.errors import (
    BundleRefused,
    EngineRefused,
    InputRefused,
    MadclipError,
    OutputNotWritten,
    UsageError,
    one_line,
)
from madclip_runtime.files import make_folder, sha256_of, write_whole
from madclip_runtime.inputs import Finder, find_images


def test_every_refusal_has_its_own_exit_code() -> None:
    kinds = (UsageError, InputRefused, BundleRefused, EngineRefused, MadclipError, OutputNotWritten)
    assert [kind.exit_code for kind in kinds] == [2, 3, 4, 5, 6, 7]
    assert InputRefused("a", "b").line() == "a: b" and InputRefused("a", "b", "c").line() == "a: b (c)"


def test_one_line_has_no_control_character_and_an_end() -> None:
    assert one_line("a\nb\x1b[0m\u202ec\ud800") == "a b [0m c"
    assert len(one_line("x" * 10**6)) == 5000


def test_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two" and _names_in(tmp_path) == ["out.bin"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.bin"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files_module.os, "fsync", full)
    with pytest.raises(OutputNotWritten, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and _names_in(tmp_path) == ["out.bin"]


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritten):
        make_folder(tmp_path / "file" / "below")
    with pytest.raises(OutputNotWritten):
        write_whole(tmp_path / "none" / "x", b"")


def test_names_at_the_systems_limit_can_be_written(tmp_path: Path) -> None:
    name = "\N{BRAIN}" * 63  # 252 bytes
    write_whole(tmp_path / name, b"x")
    assert (tmp_path / name).read_bytes() == b"x"


def test_hash(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A nested folder of images, and of things that are none."""
    folder = tmp_path / "scans"
    for name in ("b.png", "a.JPG", "deep/er/c.tif", "notes.txt", ".hidden.png", ".git/d.png", "a.overlay.png"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def _names(jobs: list, root: Path) -> list[str]:
    return [job.source.relative_to(root).as_posix() for job in jobs]


def test_a_folder_is_searched_through_sorted_and_counted(scans: Path) -> None:
    jobs, skipped = find_images([str(scans)], Path("out"))
    assert _names(jobs, scans) == ["a.JPG", "b.png", "deep/er/c.tif"] and skipped == 1
    assert [job.stem.as_posix() for job in jobs] == ["out/a", "out/b", "out/deep/er/c"]


def test_outputs_of_one_name_never_meet(tmp_path: Path) -> None:
    for name in ("x/a.png", "x/a.jpg", "y/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    jobs, _ = find_images([str(tmp_path / "x"), str(tmp_path / "y"), str(tmp_path / "x/a.png")], Path("out"))
    assert [job.stem.name for job in jobs] == ["a", "a-2", "a-3", "a-4"]


@pytest.mark.parametrize("out", ["scans", "scans/out", ".", "elsewhere", "scans-2"])
def test_wherever_the_output_lies_the_images_are_found_and_earlier_overlays_are_not(
    scans: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scans.parent)
    (Path(out) / "deep").mkdir(parents=True, exist_ok=True)
    (Path(out) / "deep" / "b.overlay.png").touch()
    jobs, _ = find_images(["scans"], Path(out))
    assert _names(jobs, Path("scans")) == ["a.JPG", "b.png", "deep/er/c.tif"]


def test_a_file_named_by_hand_is_taken_whatever_its_ending(scans: Path) -> None:
    jobs, skipped = find_images([str(scans / "notes.txt"), str(scans / "a.overlay.png")], Path("out"))
    assert [job.source.name for job in jobs] == ["notes.txt", "a.overlay.png"] and skipped == 0


def test_a_folder_without_images_is_refused_alone(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    jobs = list(Finder(Path("out")).jobs([str(tmp_path / "empty"), str(scans)]))
    assert [job.refusal is None for job in jobs] == [False, True, True, True]
    with pytest.raises(InputRefused, match="no image in this folder"):
        find_images([str(scans), str(tmp_path / "empty")], Path("out"))


def test_very_long_names_stay_writable() -> None:
    jobs, _ = find_images(["\N{BRAIN}" * 62 + ".png", "\N{BRAIN}" * 62 + ".jpg", "x" * 5000], Path("out"))
    assert all(len(os.fsencode(job.stem.name)) <= 200 for job in jobs)
    assert len({job.stem for job in jobs}) == 3
