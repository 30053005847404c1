"""A file in the authors' format, made of random numbers, against their forward pass written out independently here.

Independent on purpose: two channels, softmax, an instance norm over (tokens, batch, features), prompts padded to 77
tokens and no causal mask, straight from the file's own tensors. Nothing of madclip's scoring is used on that side.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from madclip.authors import AUTHORS_SETS, import_authors, with_their_habits
from madclip.checkpoint import Checkpoint
from madclip.encoder import Encoder
from madclip_runtime.errors import BundleRefused, UsageError

_NORMAL = [
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
]
_ABNORMAL = [
    "damaged {}",
    "broken {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
    " disease {}",
    "abnormal {}",
]


@pytest.fixture
def their_file(tmp_path: Path) -> Path:
    g = torch.Generator().manual_seed(11)

    def branch() -> dict[str, Tensor]:
        shapes = {"fc1": (32, 32), "fc2": (24, 32), "fc3": (24, 32)}
        return {f"{i}.{n}.0.weight": torch.randn(s, generator=g) * 0.3 for i in range(4) for n, s in shapes.items()}

    def prompts(name: str) -> dict[str, Tensor]:
        shift = torch.randn(16, generator=g) * 20  # so that the two classes really differ
        keys = [f"prompt_learner.ctx.{name}_{p}" for p in ("end", "front", "middle")]
        extra = {"text_encoder.positional_embedding": torch.zeros(77, 16)}
        return {k: torch.randn(7, 8, 16, generator=g) * 10 + shift for k in keys} | extra

    path = tmp_path / "Brain.pth"
    content = {
        "normal_det_adapters": branch(),
        "abnormal_det_adapters": branch(),
        "prompt_maker_normal": prompts("normal"),
        "prompt_maker_abnormal": prompts("abnormal"),
    }
    torch.save(content, path)
    return path


def _their_text(clip: Any, ctx: dict[str, Tensor], name: str, states: list[str]) -> Tensor:
    """Their PromptMaker: sentences "X X … words." tokenised to 77, the X replaced or moved, encoded without a mask."""
    import open_clip  # importable only once an encoder was loaded (torchvision_ops.py)

    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    sentences = [state.format("Brain").strip() for state in states]
    ids = tokenizer([" ".join(["X"] * 8) + " " + s + "." for s in sentences])
    embedded = clip.token_embedding(ids)
    words = [len(tokenizer.encode(s)) for s in sentences]
    out = []
    for position in ("end", "front", "middle"):
        vectors = ctx[f"prompt_learner.ctx.{name}_{position}"]
        for row, n in enumerate(words):
            sos, rest, v = embedded[row, :1], embedded[row, 9:], vectors[row]
            name_part, tail = rest[:n], rest[n:]
            parts = {
                "end": [sos, v, name_part, tail],
                "front": [sos, name_part, v, tail],
                "middle": [sos, v[:4], name_part, v[4:], tail],
            }[position]
            out.append(torch.cat(parts))
    x = torch.stack(out) + clip.positional_embedding
    x = clip.ln_final(clip.transformer(x, attn_mask=None))
    pooled = x[torch.arange(21), ids.argmax(-1).repeat(3)] @ clip.text_projection
    mean = pooled.mean(0)
    return mean / mean.norm()


def _their_scores(encoder: Encoder, content: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    clip: Any = encoder.clip
    text = torch.stack(
        [
            _their_text(clip, content["prompt_maker_normal"], "normal", _NORMAL),
            _their_text(clip, content["prompt_maker_abnormal"], "abnormal", _ABNORMAL),
        ],
        dim=1,
    )
    taps = clip.visual.forward_intermediates(images, indices=[0, 1, 2, 3], output_fmt="NLC", intermediates_only=True)
    maps, det = [], []
    for level, tokens in enumerate(taps["image_intermediates"]):
        columns: dict[str, list[Tensor]] = {"fc2": [], "fc3": []}
        for own, branch in enumerate(("normal", "abnormal")):
            state = content[f"{branch}_det_adapters"]
            hidden = F.leaky_relu(tokens @ state[f"{level}.fc1.0.weight"].T, 0.01)
            hidden = F.instance_norm(hidden.permute(1, 0, 2)).permute(1, 0, 2)
            for head, found in columns.items():
                o = F.leaky_relu(hidden @ state[f"{level}.{head}.0.weight"].T, 0.01)
                both = (o / o.norm(dim=-1, keepdim=True)) @ text
                found.append(both[..., own] - both[..., 1 - own])
        det.append(torch.stack(columns["fc2"], -1).softmax(-1)[..., 1].mean(1))
        grid = torch.stack(columns["fc3"], 1).reshape(len(images), 2, 6, 6)
        two = F.interpolate(grid, size=240, mode="bilinear", align_corners=True).softmax(1)
        maps.append(0.5 * (1 - two[:, 0]) + 0.5 * two[:, 1])
    return torch.stack(det).mean(0), torch.stack(maps).mean(0)


@torch.no_grad()
def test_scores_are_theirs(their_file: Path, mini_encoder: Encoder, tmp_path: Path) -> None:
    encoder = with_their_habits(mini_encoder)
    imported = import_authors(their_file, "Brain", encoder)
    imported.save(tmp_path / "brain.pt")
    loaded = Checkpoint.load(tmp_path / "brain.pt")
    assert loaded.card.encoder.mean == (0, 0, 0) and not loaded.card.encoder.causal_mask
    assert loaded.card.calibration.points == {} and loaded.card.image_score == "map_max"
    images = torch.randint(0, 256, (3, 240, 240, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    answers = loaded.model().reference(images.numpy())
    content = torch.load(their_file, weights_only=True)
    det, maps = _their_scores(encoder, content, images.permute(0, 3, 1, 2).float() / 255)
    assert np.abs(answers.det - det.numpy()).max() < 5e-6
    assert np.abs(answers.maps - maps.numpy()).max() < 5e-6
    assert maps.std() > 2e-3, "a constant map would agree with anything"


def test_the_command_writes_it(
    their_file: Path, mini_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from madclip import cli

    out = tmp_path / "brain.pt"
    arguments = [str(their_file), "--dataset", "Brain", "--out", str(out)]
    encoder = ["--encoder", str(mini_config), "--weights", "random"]
    monkeypatch.setattr(sys, "argv", ["madclip", "import-authors", *arguments, *encoder])
    assert cli.main() == 0
    spec = Checkpoint.load(out).card.encoder
    assert spec.std == (1, 1, 1) and not spec.causal_mask and not spec.quick_gelu


def test_our_own_habits_give_other_scores(their_file: Path, mini_encoder: Encoder) -> None:
    """The recorded settings matter: with our mean/std and causal mask the same file scores otherwise."""
    images = np.random.default_rng(3).integers(0, 256, (1, 240, 240, 3), dtype=np.uint8)
    habits = [
        import_authors(their_file, "Brain", e).model_on(e).reference(images).maps
        for e in (with_their_habits(mini_encoder), mini_encoder)
    ]
    assert np.abs(habits[0] - habits[1]).max() > 1e-3


def test_the_sets_decide_the_score(their_file: Path, mini_encoder: Encoder) -> None:
    encoder = with_their_habits(mini_encoder)
    for name, masks in AUTHORS_SETS.items():
        assert import_authors(their_file, name, encoder).card.image_score == ("map_max" if masks else "det")
    with pytest.raises(UsageError, match="Knee"):
        import_authors(their_file, "Knee", encoder)


def test_anything_else_is_refused_by_name(
    their_file: Path, mini_checkpoint: Path, mini_encoder: Encoder, tmp_path: Path
) -> None:
    encoder = with_their_habits(mini_encoder)
    content = torch.load(their_file, weights_only=True)
    del content["abnormal_det_adapters"]["2.fc3.0.weight"]
    torch.save(content, tmp_path / "hole.pth")
    content = torch.load(their_file, weights_only=True)
    content["normal_det_adapters"]["1.fc2.0.weight"] = torch.zeros(25, 32)
    torch.save(content, tmp_path / "mixed.pth")
    (tmp_path / "rubbish.pth").write_bytes(b"rubbish")
    for name, words in (("hole", "2.fc3"), ("mixed", "mixed shapes"), ("rubbish", "not a plain torch file")):
        with pytest.raises(BundleRefused, match=words):
            import_authors(tmp_path / f"{name}.pth", "Brain", encoder)
    with pytest.raises(BundleRefused, match="lacks"):
        import_authors(mini_checkpoint, "Brain", encoder)
