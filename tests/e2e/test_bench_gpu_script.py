"""benchmarks/gpu/measure.py where there is no GPU: one engine, two bundles, reports that hold and a comparison."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


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
