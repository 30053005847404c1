"""Training as a tool: an interrupted run ends with the numbers it would have had; kept features are never stale."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from madclip import fit as module
from madclip.checkpoint import Checkpoint
from madclip.config import MethodConfig, TrainConfig
from madclip.data import Dataset
from madclip.encoder import Encoder, load_encoder
from madclip.features import FeatureCache
from madclip.train import Surroundings, train

METHOD = MethodConfig("Brain")


def _same(first: Checkpoint, second: Checkpoint) -> bool:
    return (
        all(torch.equal(first.adapters[n], second.adapters[n]) for n in first.adapters)
        and torch.equal(first.prompts["context"], second.prompts["context"])
        and first.card.calibration == second.card.calibration
    )


def test_an_interrupted_run_goes_on_to_the_same_numbers(
    phantom_data: Dataset, mini_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(shots=1, seed=5, epochs=4, average_last=3)
    whole = train(phantom_data, mini_encoder, METHOD, config, Surroundings())
    real, calls = module._Run.epoch, iter(range(10))

    def until_the_last(run: module._Run, data: module.Batchable, number: int) -> float:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return real(run, data, number)

    said: list[str] = []
    around = Surroundings(state=tmp_path / "x.pt.training", log=tmp_path / "log.csv", say=said.append)
    with monkeypatch.context() as patch:
        patch.setattr(module._Run, "epoch", until_the_last)
        with pytest.raises(KeyboardInterrupt):
            train(phantom_data, mini_encoder, METHOD, config, around)
    resumed = train(phantom_data, mini_encoder, METHOD, config, around)
    assert any("after epoch 3" in line for line in said)
    assert _same(whole, resumed)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,seconds" and [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3", "4"]


def test_another_runs_state_and_a_damaged_one_are_not_taken(
    phantom_data: Dataset, mini_encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "x.pt.training"
    monkeypatch.setattr(module.TrainingState, "save", _keep_all := _Keep())
    train(phantom_data, mini_encoder, METHOD, TrainConfig(shots=1, seed=5, epochs=2), Surroundings(state=state))
    monkeypatch.undo()
    assert _keep_all.count == 1
    said: list[str] = []
    other = TrainConfig(shots=1, seed=6, epochs=2)
    plain = train(phantom_data, mini_encoder, METHOD, other, Surroundings())
    for rubbish in (b"rubbish", state.read_bytes()[:100] if state.exists() else b""):
        state.write_bytes(rubbish)
        around = Surroundings(state=state, say=said.append)
        assert _same(train(phantom_data, mini_encoder, METHOD, other, around), plain)
    assert not any("going on" in line for line in said)


class _Keep:
    """Stands in for TrainingState.save and counts: after the last epoch nothing is saved."""

    count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1


def test_kill_9_at_some_moment_loses_nothing(mini_config: Path, phantom_data: Dataset, tmp_path: Path) -> None:
    program = shlex.quote(str(Path(sys.executable).parent / "madclip"))

    def command(out: str) -> list[str]:
        text = f"{program} train --data {phantom_data.root} --shots 1 --epochs 12 --encoder {mini_config}"
        return shlex.split(f"{text} --weights random --out {out}")

    subprocess.run(command("whole.pt"), cwd=tmp_path, check=True, capture_output=True, timeout=120)
    with subprocess.Popen(
        command("cut.pt"), cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as running:
        until = time.monotonic() + 100
        while not (tmp_path / "cut.pt.training").exists() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(running.pid, signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL and not (tmp_path / "cut.pt").exists()
    done = subprocess.run(command("cut.pt"), cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120)
    assert "going on after epoch" in done.stderr
    assert _same(Checkpoint.load(tmp_path / "whole.pt"), Checkpoint.load(tmp_path / "cut.pt"))
    assert not list(tmp_path.glob("*.training"))


def test_kept_features_are_used_again_and_change_nothing(
    phantom_data: Dataset, mini_encoder: Encoder, tmp_path: Path
) -> None:
    config = TrainConfig(shots=1, seed=5, epochs=1)
    said: list[str] = []
    around = Surroundings(cache=FeatureCache(tmp_path / "cache"), say=said.append)
    without = train(phantom_data, mini_encoder, METHOD, config, Surroundings())
    first = train(phantom_data, mini_encoder, METHOD, config, around)
    ablation = train(phantom_data, mini_encoder, MethodConfig("Brain", heads="common"), config, around)
    again = train(phantom_data, mini_encoder, METHOD, config, around)
    features = [line for line in said if line.startswith("features")]
    assert "0 of them from the cache" in features[0]
    assert "32 of them from the cache" in features[1] and "32 of them from the cache" in features[2]
    assert _same(without, first) and _same(first, again) and ablation.card.method.heads == "common"


def test_kept_features_depend_on_all_that_makes_them(mini_config: Path, mini_encoder: Encoder, tmp_path: Path) -> None:
    from dataclasses import replace

    cache = FeatureCache(tmp_path)
    variants = torch.rand(16, 3, 240, 240, generator=torch.Generator().manual_seed(0))
    features = torch.stack(mini_encoder.taps(variants), dim=1).numpy()
    cache.keep(mini_encoder, variants, features)
    kept = cache.find(mini_encoder, variants, features.shape)
    assert kept is not None and (kept == features).all()
    assert cache.find(mini_encoder, variants * 0.999, features.shape) is None
    for change in ({"mean": (0.0, 0.0, 0.0)}, {"taps": (1, 2, 3, 3)}, {"sha256": "0" * 64}):
        other = Encoder(mini_encoder.clip, replace(mini_encoder.spec, **change))
        assert cache.find(other, variants, features.shape) is None
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert cache.find(mini_encoder, variants, features.shape) is None, "a damaged file is computed again"
    assert load_encoder(str(mini_config), "random").spec == mini_encoder.spec


def test_the_mean_of_the_last_epochs_is_kept(phantom_data: Dataset, mini_encoder: Encoder, tmp_path: Path) -> None:
    """Of four epochs at most two; an interrupted run averages what it would have."""
    seen: list[torch.Tensor] = []

    def note(_: int, trained: module.Trained) -> None:
        seen.append(trained.adapters.normal[0].det.weight.detach().clone())  # type: ignore[union-attr]

    config = TrainConfig(shots=1, seed=5, epochs=4, average_last=10)
    around = Surroundings(each_epoch=note)
    averaged = train(phantom_data, mini_encoder, METHOD, config, around)
    assert config.averaged == 2 and TrainConfig(epochs=1, average_last=10).averaged == 1
    expected = (seen[2] + seen[3]) / 2
    assert torch.allclose(averaged.adapters["normal.0.det.weight"], expected, atol=1e-7)
    last = train(phantom_data, mini_encoder, METHOD, TrainConfig(shots=1, seed=5, epochs=4), Surroundings())
    assert torch.equal(last.adapters["normal.0.det.weight"], seen[3])
