"""The one-channel form must be the paper's two-channel form, to rounding; that is what makes the fused graph exact."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from madclip import scores


def _random(seed: int, tokens: int, width: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    o_n, o_ab = (torch.randn(3, tokens, width, generator=g, dtype=torch.float64) * 5 for _ in range(2))
    t_n, t_ab = (F.normalize(torch.randn(width, generator=g, dtype=torch.float64), dim=0) for _ in range(2))
    return o_n, o_ab, t_n, t_ab


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), grid=st.integers(1, 7), width=st.integers(2, 40))
def test_one_channel_equals_two(seed: int, grid: int, width: int) -> None:
    o_n, o_ab, t_n, t_ab = _random(seed, grid * grid, width)
    reference = scores.reference_scores(o_n, o_ab, t_n, t_ab)
    got = scores.class_scores(o_n, o_ab, *scores.directions(t_n, t_ab))
    assert torch.allclose(got, reference, atol=1e-12)
    logit = scores.abnormal_logit(got)
    assert torch.allclose(logit.sigmoid(), reference.softmax(-1)[..., 1], atol=1e-12)
    one = scores.upsample(logit, 24)[:, 0].sigmoid()
    assert torch.allclose(one, scores.level_map(reference, 24), atol=1e-12)
    assert torch.allclose(logit.sigmoid().mean(1), scores.detection_score(reference), atol=1e-12)


def test_reference_is_the_papers_formula_by_hand() -> None:
    o_n, o_ab = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[0.0, 2.0]]])
    t_n, t_ab = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert torch.allclose(scores.reference_scores(o_n, o_ab, t_n, t_ab)[0, 0], torch.tensor([0.6 - 0.8, 1.0 - 0.0]))


def test_upsampling_keeps_rows_rows_and_corners_corners() -> None:
    grid = torch.arange(9.0).reshape(1, 9)
    up = scores.upsample(grid, 5)[0, 0]
    assert up[0, 0] == 0 and up[0, -1] == 2 and up[-1, 0] == 6 and up[-1, -1] == 8
    assert up[0, 1] == 0.5, "align_corners: half-way between the first two patches of the first row"


def test_a_zero_feature_gives_a_finite_score() -> None:
    zero = torch.zeros(1, 4, 8)
    assert torch.isfinite(scores.class_scores(zero, zero, torch.ones(8), torch.ones(8))).all()


def test_the_hand_made_gradient_is_autograds() -> None:
    g = torch.Generator().manual_seed(5)
    o = torch.randn(2, 3, 6, generator=g, dtype=torch.float64, requires_grad=True)
    w = torch.randn(6, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, generator=g, dtype=torch.float64)
    expected = torch.autograd.grad(((F.normalize(o, dim=-1) @ w) * weight).sum(), (o, w))
    got = torch.autograd.grad((scores.cosines(o, w) * weight).sum(), (o, w))
    assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(got, expected, strict=True))
    assert torch.autograd.gradcheck(scores.cosines, (o, w))


def test_an_adapter_is_the_papers_formula_layer_by_layer(draw: torch.Generator) -> None:
    from madclip.adapters import Adapter
    from madclip.config import MethodConfig

    adapter = Adapter(6, 4, MethodConfig("x")).double()
    x = torch.randn(2, 3, 6, generator=draw, dtype=torch.float64)
    hidden = F.leaky_relu(x @ adapter.shared.weight.T, 0.01)
    hidden = (hidden - hidden.mean(-1, keepdim=True)) / (hidden.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    det, seg = (F.leaky_relu(hidden @ head.weight.T, 0.01) for head in (adapter.det, adapter.seg))
    assert torch.allclose(adapter(x), torch.stack([det, seg], dim=2), atol=1e-12)


def test_without_subtraction_it_is_ablation_d() -> None:
    o_n, o_ab, t_n, t_ab = _random(1, 4, 6)
    reference = scores.reference_scores(o_n, o_ab, t_n, t_ab, subtraction=False)
    assert torch.allclose(reference[..., 0], F.normalize(o_n, dim=-1) @ t_n)
    got = scores.class_scores(o_n, o_ab, *scores.directions(t_n, t_ab, subtraction=False))
    assert torch.allclose(got, reference, atol=1e-12)
