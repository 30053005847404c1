"""The peers' table in small: all forms of one tiny model agree, and what can't be run is said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def peers(mini_config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list[str]]:  # type: ignore[type-arg]
    """Two rounds of a 4-block ViT; torch.compile needs a compiler and a minute, fp16 shows nothing new here."""
    out = tmp_path_factory.mktemp("peers") / "peers.json"
    options = [
        "--encoder",
        str(mini_config),
        "--weights",
        "random",
        "--rounds",
        "2",
        "--half",
        "--skip",
        "compile,compile fp16,fp16",
    ]
    command = [sys.executable, str(ROOT / "benchmarks/peers/run.py"), *options, "--out", str(out), "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert json.loads(lines[-1]) == json.loads(out.read_text())
    return json.loads(out.read_text()), lines


def test_every_form_computes_the_same_map(peers: tuple[dict, list[str]]) -> None:  # type: ignore[type-arg]
    methods = peers[0]["methods"]
    assert {"eager", "sdpa", "eager fp16", "sdpa fp16", "onnx", "cpu fp32"} <= set(methods)
    for name, row in methods.items():
        assert row["agreement"]["map"] < (1e-4 if row["number"] == "fp32" else 0.1), name
        assert row["agreement"]["score"] < (1e-4 if row["number"] == "fp32" else 0.1), name
        assert len(row["ms"]) == 2 and row["median_ms"] > 0
    assert methods["eager"]["times_as_fast"] == 1.0


def test_the_order_alternates_and_shares_are_of_a_measured_limit(peers: tuple[dict, list[str]]) -> None:  # type: ignore[type-arg]
    document, _ = peers
    assert document["orders"][0] == document["orders"][1][::-1]
    assert set(document["products_gflops"]["fp32"]) == {"torch", "onnxruntime"}
    best = max(document["products_gflops"]["fp32"].values())
    row = document["methods"]["cpu fp32"]
    assert row["share_of_limit"] == pytest.approx(row["gflops"] / best, rel=0.05, abs=2e-4)


def test_a_precision_that_export_lacks_is_skipped_by_name_not_silently(peers: tuple[dict, list[str]]) -> None:  # type: ignore[type-arg]
    document, lines = peers
    for precision in ("fp32", "int8"):
        names = [name for name in document["methods"] if name.endswith(precision)]
        assert names or precision in document["skipped"]
    assert all(f"skipped {name}: {why}" in lines for name, why in document["skipped"].items())
    assert "compile" not in document["methods"] and str(ROOT) not in json.dumps(document)


def test_useful_work_is_what_a_count_of_the_products_gives() -> None:
    """ViT-L/14 at 240 px: the tower's weights over 290 tokens, attention and adapters, counted another way."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from work import Shape, useful_flops\n"
        "print(useful_flops(Shape(14, 290, 1024, 24, 4096, 768, 4, True)), "
        "useful_flops(Shape(14, 290, 1024, 24, 4096, 768, 4, False)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(ROOT / "benchmarks/peers")], capture_output=True, text=True)
    both, map_only = map(float, done.stdout.split())
    block_weights = 24 * (4 * 1024**2 + 2 * 1024 * 4096)
    tower = 2 * 290 * block_weights + 24 * 4 * 290**2 * 1024 + 2 * 289 * 3 * 14**2 * 1024
    assert both == pytest.approx(tower + 2 * 289 * 4 * 2 * (1024**2 + 2 * 1024 * 768), rel=1e-9)
    assert both == pytest.approx(196e9, rel=0.01)
    assert map_only < both
