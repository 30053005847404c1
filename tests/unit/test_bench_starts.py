"""Cold starts in processes of their own, deliveries to disk, and the packages a box must install."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bench_fakes import raw

from madclip_bench import starts as module
from madclip_bench.delivery import Delivery, DeliveryFigures, deliver
from madclip_bench.engine_cache import cache_options, fresh_cache
from madclip_bench.images import synthetic_images
from madclip_bench.packages import installed_packages
from madclip_bench.starts import StartFigures, take_starts
from madclip_runtime.detector import Detector
from madclip_runtime.errors import BundleRefused, EngineRefused, OutputNotWritten, UsageError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return fresh_cache(tmp_path)


@pytest.fixture(scope="module")
def image() -> bytes:
    return synthetic_images(seed=0, count=1).encoded[0]


def test_every_kind_of_start_is_a_fresh_process(tiny_bundle: Path, image: bytes, cache: Path) -> None:
    starts = take_starts(tiny_bundle, "cpu", "brightness", image, cache, again=1, from_disk=1)
    kinds = [start.kind for start in starts]
    assert kinds == ["first", "again", "from disk"] if hasattr(os, "posix_fadvise") else ["first", "again"]
    for start in starts:
        parts = (start.interpreter_ms, start.import_ms, start.load_ms, start.first_result_ms)
        assert all(part > 0 for part in parts)
        assert sum(parts) == pytest.approx(start.total_ms, abs=1e-3)


def test_the_engines_cache_is_empty_at_first_and_kept_after(
    tiny_bundle: Path, image: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []

    def fake(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        environment = options["env"]
        assert isinstance(environment, dict)
        marker = Path(environment["XDG_CACHE_HOME"]) / "engine"
        seen.append((environment["XDG_CACHE_HOME"], marker.exists()))
        marker.write_text("built")
        line = dict.fromkeys(("interpreter_ms", "import_ms", "load_ms", "first_result_ms", "total_ms"), 1.0)
        return subprocess.CompletedProcess(command, 0, json.dumps({**line, "peak_memory_bytes": None}), "")

    monkeypatch.setattr(module.subprocess, "run", fake)
    take_starts(tiny_bundle, "cpu", "brightness", image, cache, again=2, from_disk=0)
    assert [there for _, there in seen[:3]] == [False, True, True]
    assert len({folder for folder, _ in seen}) == 1


def test_the_runtimes_cache_is_the_runs_own_folder(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime_cache = SimpleNamespace(open_cache=lambda folder, limit_gb, tell: (folder, limit_gb))
    monkeypatch.setitem(sys.modules, "madclip_runtime.cache", runtime_cache)
    assert cache_options(cache) == {"cache": (str(cache), 64.0)}
    monkeypatch.setitem(sys.modules, "madclip_runtime.cache", None)
    assert cache_options(cache) == {}
    assert cache.stat().st_mode & 0o077 == 0 or os.name == "nt"


def test_a_refusal_comes_out_of_the_fresh_process_as_it_was(
    tiny_bundle: Path, image: bytes, cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no such engine"):
        take_starts(tiny_bundle, "abacus", None, image, cache, again=1, from_disk=0)
    with pytest.raises(BundleRefused, match="no such folder"):
        take_starts(tmp_path / "absent.madclip", "cpu", None, image, cache, again=1, from_disk=0)


def test_a_process_that_dies_is_refused_with_its_last_words(
    tiny_bundle: Path, image: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], -9, "", "loading\nKilled\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: done)
    with pytest.raises(EngineRefused, match="Killed"):
        take_starts(tiny_bundle, "cpu", None, image, cache, again=1, from_disk=0)


@pytest.mark.parametrize("stdout", ["", "not json", '{"interpreter_ms": 1}', "[]", "7"])
def test_a_start_that_says_nonsense_is_refused(
    tiny_bundle: Path, image: bytes, cache: Path, stdout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], 0, stdout, "")
    monkeypatch.setattr(module.subprocess, "run", lambda *a, **k: done)
    with pytest.raises(EngineRefused, match="a cold start"):
        take_starts(tiny_bundle, "cpu", "brightness", image, cache, again=1, from_disk=1)


def test_nothing_heavy_is_loaded_before_the_clock_is_read() -> None:
    code = "import sys, madclip_bench.cold_start; assert not {'numpy', 'PIL', 'onnxruntime'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_an_engine_build_shows_as_the_first_loads_extra() -> None:
    found = StartFigures.of(raw().starts)
    assert found.engine_build_ms == 2100.0
    assert [(kind.kind, kind.starts, kind.total_ms) for kind in found.kinds] == [
        ("first", 1, 3180.0),
        ("again", 1, 1080.0),
    ]
    assert found.peak_memory_bytes == 910_000_000


def test_deliveries_leave_nothing_behind(tiny_bundle: Path, image: bytes, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    delivery = deliver(Detector.load(tiny_bundle), [image, image], out)
    figures = DeliveryFigures.of(delivery)
    assert figures.results == 2 and figures.bytes > 1000
    assert figures.postprocess_ms > 0 and figures.write_ms > 0
    assert list(out.iterdir()) == []


def test_a_delivery_that_cannot_be_written_is_refused(
    tiny_bundle: Path, image: bytes, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OutputNotWritten(str(path), "No space left on device")

    monkeypatch.setattr("madclip_bench.delivery.write_whole", full)
    with pytest.raises(OutputNotWritten, match="No space left"):
        deliver(Detector.load(tiny_bundle), [image], tmp_path)


def test_medians_of_deliveries() -> None:
    found = DeliveryFigures.of(Delivery((1.0, 2.0, 30.0), (5.0, 4.0, 6.0), (10, 20, 30)))
    assert found == DeliveryFigures(3, 2.0, 5.0, 20)


def test_the_runtimes_packages_have_their_sizes() -> None:
    card = installed_packages()
    assert {"madclip-runtime", "numpy", "pillow", "opencv-python-headless", "onnxruntime"} <= set(card.bytes_of)
    assert not {"torch", "onnx", "typer", "scikit-learn"} & set(card.bytes_of)
    assert card.total_bytes == sum(card.bytes_of.values())
    assert card.bytes_of["numpy"] > 10_000_000
    assert card.bytes_of["madclip-runtime"] > 50_000  # an editable install is counted by its code
    assert np.prod(list(card.bytes_of.values()), dtype=float) > 0
