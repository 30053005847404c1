"""Which bundle a command means when it isn't named, and what it says when that can't be known."""

from pathlib import Path

import pytest

from madclip_runtime.bundle import ENVIRONMENT, find_bundle
from madclip_runtime.errors import UsageError


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def test_the_named_one_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here.madclip").mkdir()
    monkeypatch.setenv(ENVIRONMENT, "set.madclip")
    assert find_bundle("named.madclip", tmp_path) == Path("named.madclip")


def test_then_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here.madclip").mkdir()
    monkeypatch.setenv("MADCLIP_BUNDLE", "set.madclip")
    assert find_bundle(None, tmp_path) == Path("set.madclip")
    monkeypatch.setenv("MADCLIP_BUNDLE", "")
    assert find_bundle(None, tmp_path) == tmp_path / "here.madclip"


def test_then_the_only_one_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.madclip").mkdir()
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert find_bundle(None) == Path("x.madclip")


def test_several_are_never_chosen_from(tmp_path: Path) -> None:
    for name in ("b.madclip", "a.madclip"):
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError) as caught:
        find_bundle(None, tmp_path)
    assert caught.value.line() == "which bundle?: 2 here: a.madclip, b.madclip (name one: --bundle a.madclip)"
    assert caught.value.exit_code == 2


def test_none_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_bundle(None, tmp_path)
    assert "madclip export --ckpt x.pt --fp16" in caught.value.do
    assert "madclip-run --bundle x-fp16.madclip image.png" in caught.value.do
    assert "$MADCLIP_BUNDLE" in caught.value.why
