"""Sixteen variants: right count, right geometry, and masks that stay on what they mark."""

from __future__ import annotations

import torch

from madclip.augment import VARIANTS, augment


def _blob(size: int = 80) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright square off centre on black, and its mask."""
    mask = torch.zeros(size, size)
    mask[20:36, 28:48] = 1
    return mask.expand(3, -1, -1).clone(), mask


def test_count_range_and_identity(draw: torch.Generator) -> None:
    image = torch.rand(3, 40, 40, generator=draw)
    images, masks = augment(image, torch.zeros(40, 40))
    assert images.shape == (VARIANTS, 3, 40, 40) and masks.shape == (VARIANTS, 40, 40)
    assert torch.equal(images[0], image)
    assert images.min() >= 0 and images.max() <= 1 and not masks.any()


def test_masks_follow_the_geometry(draw: torch.Generator) -> None:
    images, masks = augment(*_blob())
    for variant, (image, mask) in enumerate(zip(images, masks, strict=True)):
        bright = image.mean(0) > 0.4
        overlap = (bright & mask.bool()).sum() / (bright | mask.bool()).sum()
        assert overlap > 0.9, f"variant {variant}: image and mask went different ways"
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_every_variant_is_another(draw: torch.Generator) -> None:
    image = torch.rand(3, 40, 40, generator=draw)
    images, _ = augment(image, torch.zeros(40, 40))
    flat = images.flatten(1)
    assert (torch.cdist(flat, flat) + torch.eye(VARIANTS) * 1e3).min() > 0.05


def test_flips_are_exact_and_jitter_leaves_the_mask(draw: torch.Generator) -> None:
    image, mask = _blob()
    image = image * 0.5 + 0.2  # mid-grey, so that no factor is lost to clipping
    images, masks = augment(image, mask)
    assert torch.equal(images[14], image.flip(-1)) and torch.equal(masks[14], mask.flip(-1))
    assert torch.equal(images[15], image.flip(-2)) and torch.equal(masks[15], mask.flip(-2))
    assert torch.equal(masks[13], mask) and not torch.equal(images[13], image)


def test_zoom_enlarges(draw: torch.Generator) -> None:
    _, masks = augment(*_blob())
    areas = masks[9:13].sum(dim=(1, 2)) / masks[0].sum()
    for area, zoom in zip(areas.tolist(), (1.1, 1.15, 1.2, 1.3), strict=True):
        assert abs(area - zoom**2) < 0.15


def test_outside_is_reflected_not_black(draw: torch.Generator) -> None:
    images, _ = augment(torch.ones(3, 40, 40), torch.zeros(40, 40))
    geometric = torch.cat([images[:13], images[14:]])
    assert torch.allclose(geometric, torch.ones_like(geometric), atol=1e-5)


def test_an_image_has_the_same_variants_in_every_run() -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(4))
    torch.manual_seed(1)
    first, _ = augment(image, torch.zeros(32, 32))
    torch.manual_seed(2)
    second, _ = augment(image, torch.zeros(32, 32))
    assert torch.equal(first, second)


def test_two_images_are_jittered_differently(draw: torch.Generator) -> None:
    flat = [torch.full((3, 8, 8), value) for value in (0.4, 0.41)]
    factors = [(augment(image, torch.zeros(8, 8))[0][13].mean() / image.mean()).item() for image in flat]
    assert abs(factors[0] - factors[1]) > 1e-3 and all(0.75 < factor < 1.25 for factor in factors)
