"""The helper bundle is itself right: it passes every check a real one must, and answers what numpy answers."""

from pathlib import Path
from types import ModuleType

import numpy as np

from madclip_runtime.bundle import Bundle
from madclip_runtime.detector import Detector
from madclip_runtime.engines import load_engine


def test_engine_gives_the_golden_answers(tiny_bundle: Path) -> None:
    bundle = Bundle.load(tiny_bundle)
    golden = bundle.golden()
    scores, maps = load_engine(bundle).run(golden.images)["brightness"]
    np.testing.assert_allclose(scores, golden.scores, atol=1e-6)
    np.testing.assert_allclose(maps, golden.maps, atol=1e-6)


def test_decision_follows_brightness(tiny_bundle: Path) -> None:
    detector = Detector.load(tiny_bundle)
    dark, bright = np.full((20, 30), 10, np.uint8), np.full((20, 30), 250, np.uint8)
    assert [detector(image).decision for image in (dark, bright)] == ["normal", "abnormal"]


def test_the_same_call_writes_the_same_bytes(tiny: ModuleType, tmp_path: Path) -> None:
    one, two = (tiny.write_tiny_bundle(tmp_path / name, size=48, threshold=None) for name in "ab")
    for path in sorted(one.rglob("*.*")):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes()
    assert Detector.load(one)(np.zeros((9, 9), np.uint8)).decision == "uncalibrated"
