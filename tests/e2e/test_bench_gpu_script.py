"""benchmarks/gpu/measure.py where there is no GPU: one engine, two bundles, reports that hold and a comparison."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_engine_that_is_here_gives_a_report_that_holds(tiny: ModuleType, tmp_path: Path) -> None:
    bundles = [
        tiny.write_tiny_bundle(tmp_path / f"{name}.madclip", threshold=at) for name, at in (("a", 0.5), ("b", 0.6))
    ]
    options = [text for bundle in bundles for text in ("--bundle", str(bundle))]
    command = [sys.executable, str(ROOT / "benchmarks/gpu/measure.py"), *options, "--bundle", "none.madclip"]
    out = tmp_path / "out"
    done = subprocess.run(
        [*command, "--quick", "--scenarios", "single", "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"a-cpu", "b-cpu"} <= set(found["reports"]) and all(found["holds"].values())
    assert found["comparison"] == "compare.html" and (out / "compare.html").exists()
    assert "no such folder" in found["refused"]["none-cpu"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: run benchmarks/gpu/run.sh itself")
def test_the_table_is_refused_in_a_sentence_where_there_is_no_gpu(tmp_path: Path) -> None:
    """The environment is this one, so that nothing is installed."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "madclip").touch(mode=0o755)
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    out = tmp_path / "table.json"
    command = ["bash", str(ROOT / "benchmarks/gpu/run.sh"), str(out)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "VENV": str(tmp_path)}, timeout=120, check=False
    )
    assert done.returncode == 5 and "sees no GPU: nothing was run" in done.stderr and not out.exists()
