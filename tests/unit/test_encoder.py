"""The frozen encoder: taps are block outputs, weights are proven by hash, and wrong names are refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from madclip.encoder import Encoder, _wants_quick_gelu, load_encoder, reload_encoder
from madclip_runtime.errors import InputRefused, UsageError


def test_taps_are_the_outputs_of_the_quarter_blocks(mini_encoder: Encoder, draw: torch.Generator) -> None:
    outputs: dict[int, torch.Tensor] = {}
    blocks = mini_encoder.visual.transformer.resblocks  # type: ignore[union-attr]
    handles = [
        block.register_forward_hook(lambda _m, _i, out, n=n: outputs.__setitem__(n, out))
        for n, block in enumerate(blocks, start=1)  # type: ignore[arg-type]
    ]
    taps = mini_encoder.taps(torch.rand(2, 3, 240, 240, generator=draw))
    for handle in handles:
        handle.remove()
    assert mini_encoder.spec.taps == (1, 2, 3, 4)
    for tap, got in zip(mini_encoder.spec.taps, taps, strict=True):
        assert torch.equal(got, outputs[tap][:, 1:]), "class token dropped, nothing else done"
    assert mini_encoder.tap_shape() == (36, 32)


def test_mean_and_std_are_applied_before_the_tower(mini_encoder: Encoder) -> None:
    plain = Encoder(mini_encoder.clip, replace(mini_encoder.spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    image = torch.rand(1, 3, 240, 240, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (mini_encoder.spec.mean, mini_encoder.spec.std))
    assert torch.allclose(mini_encoder.taps(image)[0], plain.taps((image - mean) / std)[0], atol=1e-6)


def test_a_weights_file_comes_back_by_hash_and_another_is_refused(
    mini_encoder: Encoder, mini_config: Path, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in mini_encoder.clip.state_dict().items()}
    good, moved, other = tmp_path / "a.safetensors", tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    save_file(state, good)
    loaded = load_encoder(str(mini_config), str(good))
    assert loaded.spec.sha256 == mini_encoder.spec.sha256, "the same numbers, wherever they come from"
    good.rename(moved)
    with pytest.raises(InputRefused, match="--weights"):
        reload_encoder(loaded.spec)
    assert reload_encoder(loaded.spec, str(moved)).spec.sha256 == loaded.spec.sha256
    state["visual.class_embedding"] = state["visual.class_embedding"] + 1e-3
    save_file(state, other)
    with pytest.raises(InputRefused, match="hash"):
        reload_encoder(loaded.spec, str(other))


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone(mini_config: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = (load_encoder(str(mini_config), "random") for _ in range(2))
    assert first.spec.sha256 == second.spec.sha256 and first.spec.random
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("no-such-model", None, "no such model"),
        ("ViT-L-14", None, "--weights is needed"),
        ("ViT-L-14", "no-such-tag", "no file and no known tag"),
    ],
)
def test_wrong_names_are_refused_with_what_to_do(name: str, weights: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_encoder(name, weights)


def test_a_bad_config_and_a_bad_weights_file_are_refused(mini_config: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(InputRefused, match="broken"):
        load_encoder(str(broken), "random")
    rubbish = tmp_path / "w.safetensors"
    rubbish.write_bytes(b"rubbish")
    with pytest.raises(InputRefused, match="mini"):
        load_encoder(str(mini_config), str(rubbish))


def test_openai_weights_run_quick_gelu() -> None:
    assert _wants_quick_gelu("ViT-L-14-336", "", "tag:openai")
    assert _wants_quick_gelu("ViT-L-14-336", "", "file:/somewhere.pt"), "its only public weights are OpenAI's"
    assert not _wants_quick_gelu("ViT-L-14", "", "tag:laion2b_s32b_b82k")
