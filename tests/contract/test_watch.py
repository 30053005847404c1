"""Drop folder and folder mode under kill -9: no partial file, no image lost, none done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bad_files import nifti_bytes
from image_files import noise, saved
from PIL import Image

from madclip_runtime.errors import OutputNotWritten, UsageError
from madclip_runtime.inputs import Finder, Job, SliceChoice
from madclip_runtime.watch import JOURNAL, Watch

_COMMAND = [sys.executable, "-m", "madclip_runtime.cli", "--no-cache", "--engine", "cpu"]


def lines(out: Path) -> list[dict]:
    path = out / JOURNAL
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*_COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def check_pictures(out: Path, stems: set[str]) -> None:
    """Every overlay is whole, every one that must be there is, and nothing else lies around."""
    overlays = {path.name.removesuffix(".overlay.png"): path for path in out.rglob("*.overlay.png")}
    assert set(overlays) == stems
    for path in overlays.values():
        with Image.open(path) as picture:
            picture.load()
    assert {path.name for path in out.rglob("*") if path.is_file()} <= {f"{s}.overlay.png" for s in stems} | {JOURNAL}


def test_watching_through_kills_does_each_file_once(tiny_bundle: Path, tmp_path: Path) -> None:
    drop, out = tmp_path / "drop", tmp_path / "out"
    drop.mkdir()
    rng = np.random.default_rng(0)
    dropped = 0
    for _ in range(6):
        process = start("--bundle", tiny_bundle, "--watch", drop, "--out", out)
        for _ in range(5):
            (drop / f".{dropped}").write_bytes(saved(noise(seed=dropped), "PNG"))
            (drop / f".{dropped}").rename(drop / f"{dropped}.png")
            dropped += 1
        time.sleep(rng.uniform(0.3, 5.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process = start("--bundle", tiny_bundle, "--watch", drop, "--out", out)
    wait_until(lambda: len(lines(out)) == dropped, 120)
    time.sleep(1.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 130
    assert Counter(line["watched"][0] for line in lines(out)) == Counter(f"{k}.png" for k in range(dropped))
    assert all("score" in line for line in lines(out))
    check_pictures(out, {str(k) for k in range(dropped)})


def test_a_folder_through_kills_leaves_only_whole_files_and_a_last_run_does_all(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for k in range(40):
        (scans / f"{k}.png").write_bytes(saved(noise(200, 200, seed=k), "PNG"))
    rng = np.random.default_rng(1)
    for _ in range(6):
        process = start("--bundle", tiny_bundle, scans, "--out", out, "--map", "png")
        wait_until(lambda: out.is_dir() and any(out.iterdir()))
        time.sleep(rng.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for path in out.iterdir():
            with Image.open(path) as picture:
                picture.load()
        assert not [path for path in out.iterdir() if path.name.startswith(".")]
        for path in out.iterdir():
            path.unlink()
    assert start("--bundle", tiny_bundle, scans, "--out", out).wait(timeout=120) == 0
    check_pictures(out, {str(k) for k in range(40)})


def watch(tmp_path: Path, **options: object) -> Watch:
    (tmp_path / "drop").mkdir(exist_ok=True)
    (tmp_path / "out").mkdir(exist_ok=True)
    return Watch(tmp_path / "drop", tmp_path / "out", Finder(tmp_path / "out"), every_s=0.01, **options)  # type: ignore[arg-type]


def taken(watcher: Watch, count: int) -> list[Job]:
    jobs = watcher.jobs()
    return [next(jobs) for _ in range(count)]


def test_a_file_that_is_being_written_waits(tmp_path: Path) -> None:
    with watch(tmp_path) as watcher:
        with (tmp_path / "drop" / "a.png").open("wb") as slow:
            slow.write(b"half")
            slow.flush()
            (tmp_path / "drop" / "b.png").write_bytes(b"whole")
            (tmp_path / "drop" / "empty.png").touch()
            jobs = watcher.jobs()
            assert next(jobs).source.name == "b.png"
            slow.write(b" and the rest")
        assert next(jobs).source.name == "a.png"


def test_a_restart_remembers_and_a_changed_file_is_new(tmp_path: Path) -> None:
    path = tmp_path / "drop" / "a.png"
    with watch(tmp_path) as watcher:
        path.write_bytes(b"one")
        (job,) = taken(watcher, 1)
        watcher.done(job, [{"file": "a"}])
    (tmp_path / "drop" / "b.png").write_bytes(b"two")
    with watch(tmp_path) as watcher:
        (other,) = taken(watcher, 1)
        assert other.source.name == "b.png"
        path.write_bytes(b"another one")
        (again,) = taken(watcher, 1)
        assert again.source.name == "a.png" and again.stem.name == "a-2"  # the first one's picture is kept


@pytest.mark.parametrize("torn", [b'{"file": "b", "wat', b'{"file": "b", "stem": "x"}\n', b"\0\0\0"])
def test_what_a_power_cut_left_of_a_line_is_cut_off_and_the_file_done_again(tmp_path: Path, torn: bytes) -> None:
    with watch(tmp_path) as watcher:
        (tmp_path / "drop" / "a.png").write_bytes(b"one")
        watcher.done(taken(watcher, 1)[0], [{"file": "a"}])
    journal = tmp_path / "out" / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    with watch(tmp_path) as watcher:
        assert journal.read_bytes() == whole
        (tmp_path / "drop" / "b.png").write_bytes(b"two")
        watcher.done(taken(watcher, 1)[0], [{"file": "b"}])
    assert [line["file"] for line in lines(tmp_path / "out")] == ["a", "b"]


@pytest.mark.parametrize("foreign", [b"not ours\n", b"[1]\n", b'{"watched": "a"}\n', b'{"watched": ["a", "b", {}]}\n'])
def test_a_whole_line_that_is_none_of_ours_is_refused_and_nothing_is_cut_off(tmp_path: Path, foreign: bytes) -> None:
    with watch(tmp_path) as watcher:
        (tmp_path / "drop" / "a.png").write_bytes(b"one")
        watcher.done(taken(watcher, 1)[0], [{"file": "a"}])
    journal = tmp_path / "out" / JOURNAL
    mixed = journal.read_bytes() + foreign + journal.read_bytes()
    journal.write_bytes(mixed)
    with pytest.raises(UsageError, match="line 2"), watch(tmp_path):
        pass
    assert journal.read_bytes() == mixed


def test_a_volume_is_journalled_when_its_last_slice_is_done(tmp_path: Path) -> None:
    (tmp_path / "drop").mkdir()
    (tmp_path / "out").mkdir()
    finder = Finder(tmp_path / "out", SliceChoice.parse(2, "4:7"))
    with Watch(tmp_path / "drop", tmp_path / "out", finder, every_s=0.01) as watcher:
        (tmp_path / "drop" / "v.nii").write_bytes(nifti_bytes())
        jobs = taken(watcher, 3)
        for job in jobs[:2]:
            watcher.done(job, [{"file": job.name}])
        assert lines(tmp_path / "out") == []
        watcher.done(jobs[2], [{"file": jobs[2].name}])
    told = lines(tmp_path / "out")
    assert len(told) == 3 and ["watched" in line for line in told] == [False, False, True]


def test_only_one_watches_into_a_folder_and_the_drop_folder_must_be_there(tmp_path: Path) -> None:
    with watch(tmp_path), pytest.raises(UsageError, match="another madclip-run"), watch(tmp_path):
        pass
    with pytest.raises(UsageError, match="no such folder"):
        Watch(tmp_path / "none", tmp_path, Finder(tmp_path))
    (tmp_path / "out" / JOURNAL).unlink()
    (tmp_path / "out" / JOURNAL).mkdir()
    with pytest.raises(OutputNotWritten), watch(tmp_path):
        pass
