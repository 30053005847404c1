"""The four wheels, built once from this checkout without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOMES = {"madclip": ".", "madclip_export": "export", "madclip_runtime": "runtime", "madclip_bench": "benchmarks"}


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Package name → its wheel."""
    built = {}
    for package, home in HOMES.items():
        target = tmp_path_factory.mktemp(package)
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
        done = subprocess.run(command, cwd=ROOT / home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (built[package],) = target.glob("*.whl")
    return built
