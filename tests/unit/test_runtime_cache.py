"""The cache: whole or not there, built once, checked before use, rebuilt with a reason, within its limit."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from madclip_runtime import cache as cache_module
from madclip_runtime.cache import Cache, default_folder, open_cache
from madclip_runtime.errors import OutputNotWritten, UsageError

KEY = {"model": "abc", "library": "lib 1", "cpu": "A"}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path, 10**9)


def maker(data: bytes = b"built") -> Callable[[Path], None]:
    return lambda folder: (folder / "model").write_bytes(data) and None


def never(_: Path) -> None:
    raise AssertionError("built again")


def test_built_once_and_found_again(cache: Cache) -> None:
    said: list[str] = []
    path = cache.entry("kind", KEY, maker(), said.append)
    assert (path / "model").read_bytes() == b"built"
    assert said == ["building kind for this machine, once: this model has not run here before"]
    assert cache.entry("kind", dict(KEY), never, never) == path  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"library": "lib 2"}, "library was lib 1, is lib 2"),
        ({"cpu": "B", "library": "lib 2"}, "library was lib 1, is lib 2; cpu was A, is B"),
        ({"model": "def"}, "this model has not run here before"),
    ],
)
def test_a_rebuild_says_in_plain_words_what_changed(cache: Cache, change: dict[str, str], why: str) -> None:
    cache.entry("kind", KEY, maker(), lambda _: None)
    said: list[str] = []
    cache.entry("kind", {**KEY, **change}, maker(), said.append)
    assert said == [f"building kind for this machine, once: {why}"]


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "entry", "no entry", "other key"])
def test_a_damaged_entry_is_never_used_and_built_again(cache: Cache, damage: str) -> None:
    path = cache.entry("kind", KEY, maker(), lambda _: None)
    if damage == "bit":
        (path / "model").write_bytes(b"bui1t")
    elif damage == "cut":
        (path / "model").write_bytes(b"bu")
    elif damage == "gone":
        (path / "model").unlink()
    elif damage == "entry":
        (path / "entry.json").write_text("{")
    elif damage == "no entry":
        (path / "entry.json").unlink()
    else:
        entry = json.loads((path / "entry.json").read_text())
        (path / "entry.json").write_text(json.dumps({**entry, "key": {}}))
    said: list[str] = []
    assert (cache.entry("kind", KEY, maker(), said.append) / "model").read_bytes() == b"built"
    assert len(said) == 1 and "is damaged" in said[0]


def test_a_build_that_fails_leaves_nothing(cache: Cache) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        cache.entry("kind", KEY, fail, lambda _: None)
    assert not [path for path in cache.folder.iterdir() if path.is_dir()]
    cache.entry("kind", KEY, maker(), lambda _: None)


def test_a_long_build_is_heard_of(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setattr(cache_module, "_BEAT_S", 0.01)
    heard, said = threading.Event(), []

    def tell(line: str) -> None:
        said.append(line)
        if len(said) > 2:
            heard.set()

    def build(folder: Path) -> None:
        assert heard.wait(timeout=20)
        (folder / "model").touch()

    cache.entry("kind", KEY, build, tell)
    assert said[1].startswith("still building kind, ")


def test_what_a_killed_builder_left_is_swept_and_a_living_ones_is_not(cache: Cache) -> None:
    dead, alive = cache.folder / ".building-999999999-x", cache.folder / f".building-{os.getpid()}-x"
    for folder in (dead, alive):
        folder.mkdir()
    cache.entry("kind", KEY, maker(), lambda _: None)
    assert not dead.exists() and alive.exists()


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 2600)
    paths = []
    for number in range(3):
        paths.append(cache.entry("kind", {**KEY, "model": str(number)}, maker(b"x" * 1000), lambda _: None))
        os.utime(paths[-1], (number, number))
        if number == 1:
            os.utime(paths[0], (5, 5))  # used again
    assert [path.exists() for path in paths] == [True, False, True]
    assert cache.size_bytes() <= 2600


def test_an_entry_beyond_the_limit_is_used_and_gone_at_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[tuple] = []
    monkeypatch.setattr(cache_module.atexit, "register", lambda *call, **_: at_exit.append(call))
    said: list[str] = []
    path = Cache(tmp_path, 100).entry("kind", KEY, maker(b"x" * 1000), said.append)
    assert path.exists() and "not kept" in said[-1]
    assert at_exit[0][1] == path


def _build_slowly(folder: str, built: str) -> None:
    def build(place: Path) -> None:
        with Path(built).open("a") as file:
            file.write("x")
        import time

        time.sleep(0.3)
        (place / "model").write_bytes(b"built")

    Cache(Path(folder), 10**9).entry("kind", KEY, build, lambda _: None)


def test_two_processes_build_once(tmp_path: Path) -> None:
    folder, built = tmp_path / "cache", tmp_path / "built"
    folder.mkdir()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_build_slowly, args=(str(folder), str(built))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert built.read_text() == "x"


def test_a_folder_others_may_write_into_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(OutputNotWritten, match="others may write"):
        open_cache(str(open_to_all), 1, never)  # type: ignore[arg-type]
    said: list[str] = []
    monkeypatch.setenv("MADCLIP_CACHE", str(open_to_all))
    assert open_cache(None, 1, said.append) is None
    assert len(said) == 1 and "others may write into it" in said[0]


def test_the_default_place_is_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MADCLIP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert default_folder() == tmp_path / "x" / "madclip"
    opened = open_cache(None, 1, lambda _: None)
    assert opened is not None and opened.folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UsageError):
        open_cache(None, -1, lambda _: None)
