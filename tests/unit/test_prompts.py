"""Prompts are laid out as said, and encoding only up to the longest prompt changes nothing under the causal mask."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from madclip.encoder import Encoder
from madclip.prompts import ABNORMAL_STATES, NORMAL_STATES, PromptLearner, TextTower
from madclip_runtime.errors import UsageError


def _learner(encoder: Encoder, draw: torch.Generator, vectors: int = 8) -> PromptLearner:
    return PromptLearner(TextTower(encoder), "Brain", context_vectors=vectors, generator=draw)


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
        PromptLearner(TextTower(mini_encoder), "very " * 80, context_vectors=8, generator=draw)
