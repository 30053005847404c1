"""The ablation run: every variant of the paper, the same seeds, drops against the whole method."""

from __future__ import annotations

import pytest

from madclip import ablate as module
from madclip.ablate import ABLATIONS, Row, ablate, table
from madclip.config import MethodConfig, TrainConfig
from madclip.data import Dataset
from madclip.encoder import Encoder


def test_every_variant_runs_with_every_seed_and_its_own_method(
    phantom_data: Dataset, mini_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[MethodConfig, int]] = []
    real = module._run

    def watched(
        dataset: Dataset, encoder: Encoder, method: MethodConfig, config: TrainConfig, around: object
    ) -> object:
        seen.append((method, config.seed))
        return real(dataset, encoder, method, config, around)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_run", watched)
    monkeypatch.setattr(module, "ABLATIONS", {name: ABLATIONS[name] for name in ("whole", "d")})
    said: list[str] = []
    config = TrainConfig(shots=1, epochs=1)
    rows = ablate(phantom_data, mini_encoder, MethodConfig("Brain"), config, [3, 4], cache=None, say=said.append)
    assert [(method.subtraction, seed) for method, seed in seen] == [(True, 3), (True, 4), (False, 3), (False, 4)]
    assert [row.letter for row in rows] == ["whole", "d"] and len(said) == 2
    assert all(len(row.image) == len(row.pixel) == 2 for row in rows)
    assert rows[0].pixel != rows[1].pixel, "another method, other figures"


def test_the_papers_six_are_there_and_each_changes_one_thing() -> None:
    assert list(ABLATIONS) == ["whole", "a", "b", "c", "d", "e", "f"]
    for letter, (_, change) in ABLATIONS.items():
        assert len(change) == (letter != "whole")
        assert MethodConfig(**{"objective": "Brain", **change}) != MethodConfig("Brain") or letter == "whole"


def test_drops_are_whole_minus_variant() -> None:
    rows = [Row("whole", "all", (90.0, 92.0), (98.0, 98.0)), Row("c", "shared", (89.0, 90.0), (98.5, 98.5))]
    lines = table(rows).splitlines()
    assert lines[2] == "| whole | all | 91.00 | – | 98.00 | – |"
    assert lines[3] == "| c | shared | 89.50 | +1.50 | 98.50 | -0.50 |"
    assert "no masks" in table([Row("whole", "all", (90.0,), ())])
