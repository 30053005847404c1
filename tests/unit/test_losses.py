"""Each loss against a plain, slow rewriting of its definition."""

from __future__ import annotations

import math

import pytest
import torch

from madclip.losses import dice_loss, focal_loss, segmentation_loss, siglip_loss
from madclip.scores import upsample


def test_dice_by_hand() -> None:
    p = torch.tensor([[[0.5, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    m = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    first = (2 * 1.5 + 1) / (1.5 + 2 + 1)
    assert dice_loss(p, m).item() == pytest.approx(1 - (first + 1.0) / 2, abs=1e-6)


def test_focal_equals_the_two_class_form() -> None:
    g = torch.Generator().manual_seed(1)
    p = torch.rand(2, 6, 6, generator=g, dtype=torch.float64)
    m = (torch.rand(2, 6, 6, generator=g) > 0.7).double()
    both = torch.stack([1 - p, p], dim=1)
    one_hot = torch.stack([1 - m, m], dim=1).clamp(1e-5, 1 - 1e-5)
    p_t = (one_hot * both).sum(1) + 1e-5
    expected = (-((1 - p_t) ** 2) * p_t.log()).mean()
    assert focal_loss(p, m).item() == pytest.approx(expected.item(), rel=1e-12)


def test_siglip_equals_a_loop() -> None:
    g = torch.Generator().manual_seed(2)
    s = torch.randn(3, 5, 2, generator=g, dtype=torch.float64)
    labels = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    total = 0.0
    for image in range(3):
        for column in range(2):
            y = 1.0 if column == int(labels[image]) else -1.0
            total += sum(math.log(1 / (1 + math.exp(-y * float(v)))) for v in s[image, :, column]) / 5
    assert siglip_loss(s, labels).item() == pytest.approx(-total / 3, rel=1e-12)


def test_losses_fall_as_the_answer_gets_better() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, 2:5, 2:5] = 1
    good, bad = mask * 0.9 + 0.05, (1 - mask) * 0.9 + 0.05
    assert dice_loss(good, mask) < dice_loss(bad, mask)
    assert focal_loss(good, mask) < focal_loss(bad, mask)
    right = torch.tensor([-3.0, 3.0]).expand(1, 4, 2)
    assert siglip_loss(right, torch.ones(1)) < siglip_loss(right, torch.zeros(1))


@pytest.mark.parametrize("empty", [False, True])
def test_the_hand_made_gradient_is_autograds(empty: bool) -> None:
    g = torch.Generator().manual_seed(3)
    logit = (torch.randn(3, 5, 5, generator=g, dtype=torch.float64) * 3).requires_grad_()
    mask = (torch.rand(3, 40, 40, generator=g) > 0.8).double()
    if empty:
        mask[1] = 0
    probability = upsample(logit.flatten(1), 40)[:, 0].sigmoid()
    plain = dice_loss(probability, mask) + focal_loss(probability, mask)
    (expected,) = torch.autograd.grad(plain * 1.7, logit)
    fused = segmentation_loss(logit, mask)
    (got,) = torch.autograd.grad(fused * 1.7, logit)
    assert fused.item() == pytest.approx(plain.item(), rel=1e-12)
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_the_hand_made_gradient_in_single_precision() -> None:
    g = torch.Generator().manual_seed(4)
    logit = torch.randn(16, 15, 15, generator=g).requires_grad_()
    mask = (torch.rand(16, 240, 240, generator=g) > 0.95).float()
    probability = upsample(logit.flatten(1), 240)[:, 0].sigmoid()
    (expected,) = torch.autograd.grad(dice_loss(probability, mask) + focal_loss(probability, mask), logit)
    (got,) = torch.autograd.grad(segmentation_loss(logit, mask), logit)
    assert torch.allclose(got, expected, rtol=1e-3, atol=1e-7)
