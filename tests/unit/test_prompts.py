"""Prompts are laid out as said, and encoding only up to the longest prompt changes nothing under the causal mask."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from madclip.config import MethodConfig
from madclip.encoder import Encoder
from madclip.prompts import ABNORMAL_STATES, NORMAL_STATES, PHOTO_TEMPLATES, PromptLearner, TextTower
from madclip_runtime.errors import UsageError


def _learner(encoder: Encoder, draw: torch.Generator, vectors: int = 8) -> PromptLearner:
    return PromptLearner(TextTower(encoder), MethodConfig("Brain", context_vectors=vectors), draw)


def test_seven_states_a_class() -> None:
    assert len(NORMAL_STATES) == len(ABNORMAL_STATES) == 7


def test_embeddings_are_unit_and_differ(mini_encoder: Encoder, draw: torch.Generator) -> None:
    t_n, t_ab = _learner(mini_encoder, draw)()
    assert t_n.shape == t_ab.shape == (24,)
    assert torch.allclose(torch.stack([t_n.norm(), t_ab.norm()]), torch.ones(2), atol=1e-6)
    assert (t_n - t_ab).norm() > 1e-3


def test_with_real_words_as_vectors_it_is_open_clips_own_text_encoder(
    mini_encoder: Encoder, draw: torch.Generator
) -> None:
    """Vectors set to the embedding of "x" must give what encode_text gives for the same sentence, 77 tokens long."""
    import open_clip

    learner = _learner(mini_encoder, draw, vectors=2)
    tower = TextTower(mini_encoder)
    x = tower.embed(tower.tokens("x"))[0]
    with torch.no_grad():
        learner.context.copy_(x.expand_as(learner.context))
        t_n, t_ab = learner()
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    for got, states in ((t_n, NORMAL_STATES), (t_ab, ABNORMAL_STATES)):
        words = [state.format(o="Brain") for state in states]
        sentences = [f"x x {w}." for w in words] + [f"{w} x x." for w in words] + [f"x {w} x." for w in words]
        with torch.no_grad():
            expected = F.normalize(mini_encoder.clip.encode_text(tokenizer(sentences)).mean(0), dim=0)  # type: ignore[operator]
        assert torch.allclose(got, expected, atol=1e-5)


def test_gradients_reach_every_vector_and_nothing_else(mini_encoder: Encoder, draw: torch.Generator) -> None:
    learner = _learner(mini_encoder, draw)
    t_n, t_ab = learner()
    (t_n[0] + t_ab[1]).backward()
    assert learner.context.grad is not None and (learner.context.grad.abs().sum(-1) > 0).all()
    assert all(p.grad is None for p in mini_encoder.parameters())


def test_an_objective_too_long_for_the_tower_is_refused(mini_encoder: Encoder, draw: torch.Generator) -> None:
    with pytest.raises(UsageError, match="tokens"):
        PromptLearner(TextTower(mini_encoder), MethodConfig("very " * 80), draw)


def test_fixed_prompts_are_templates_times_states_through_open_clip(
    mini_encoder: Encoder, draw: torch.Generator
) -> None:
    import open_clip

    assert len(PHOTO_TEMPLATES) == len(set(PHOTO_TEMPLATES)) == 35
    fixed = PromptLearner(TextTower(mini_encoder), MethodConfig("Brain", prompts="fixed"), draw)
    half = PromptLearner(TextTower(mini_encoder), MethodConfig("Brain", prompts="abnormal"), draw)
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    for got, states in zip(fixed(), (NORMAL_STATES, ABNORMAL_STATES), strict=True):
        texts = [t.format(s=state.format(o="Brain")) for state in states for t in PHOTO_TEMPLATES]
        with torch.no_grad():
            each = F.normalize(mini_encoder.clip.encode_text(tokenizer(texts)), dim=-1)  # type: ignore[operator]
        assert torch.allclose(got, F.normalize(each.mean(0), dim=0), atol=1e-5)
    assert fixed.context.numel() == 0 and half.context.shape[0] == 1
    assert torch.equal(half()[0], fixed()[0]) and not torch.allclose(half()[1], fixed()[1])
    assert not half()[0].requires_grad and half()[1].requires_grad
