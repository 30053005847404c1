"""What more than one test room needs: a bundle of known answers, and the real data where there is some."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

pytest_plugins = ["method_fixtures"]

_HERE = Path(__file__).resolve().parent


def _load(name: str) -> ModuleType:
    """A helper module of this folder; under --import-mode=importlib the folder is on no import path."""
    spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module tests/tiny_bundle.py: `tiny.write_tiny_bundle(folder, size=…, threshold=…)`, `tiny.brightness(…)`."""
    return _load("tiny_bundle")


@pytest.fixture
def tiny_bundle(tiny: ModuleType, tmp_path: Path) -> Path:
    """A fresh bundle, free to be damaged: 32 pixels a side, threshold 0.5; its graph measures brightness."""
    folder: Path = tiny.write_tiny_bundle(tmp_path / "tiny.madclip")
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared beside the checkout, with real images and weights."""
    folder = _HERE.parent.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared")
    return folder
