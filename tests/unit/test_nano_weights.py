"""The weights in the package: learned, small, the ones docs/nano.md describes, and their words mean something."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.metrics import roc_auc_score

from madclip.cli import phantoms
from madclip.encoder import Encoder, load_encoder, reload_encoder
from madclip.nano.captions import zero_shot
from madclip.nano.pictures import PICTURES
from madclip.phantoms import make_phantom

_ROOT = Path(__file__).resolve().parents[2]
_FILE = _ROOT / "madclip/nano/nano.safetensors"
_PAGE = (_ROOT / "docs/nano.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano", None)


def test_nano_is_learned_and_random_only_when_asked_for(nano: Encoder) -> None:
    assert nano.spec.weights == "built-in:nano.safetensors" and not nano.spec.random
    assert nano.tap_shape() == (225, 192) and nano.spec.taps == (2, 4, 6, 8)
    other = load_encoder("nano", "random")
    assert other.spec.random and other.spec.sha256 != nano.spec.sha256
    assert reload_encoder(nano.spec).spec == nano.spec


def test_the_file_is_small_half_precision_and_the_one_on_the_page() -> None:
    assert _FILE.stat().st_size <= 16e6
    assert hashlib.sha256(_FILE.read_bytes()).hexdigest() in _PAGE
    with safe_open(_FILE, "pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        recipe = json.loads(weights.metadata()["recipe"])
    assert kinds == {"F16"}
    assert recipe["pictures"] == PICTURES
    assert {"image tower", "text tower", "teacher"} <= set(recipe)


def test_no_phantom_that_a_user_judges_by_was_seen_in_pretraining() -> None:
    """By the seeds in the file's own recipe: views and captions draw with them, and with the next ones."""
    with safe_open(_FILE, "pt") as weights:
        recipe = json.loads(weights.metadata()["recipe"])
    seen = {recipe[stage]["seed"] + next_one for stage in ("image tower", "text tower") for next_one in (0, 1)}
    drawn = re.findall(r"madclip phantoms .*--seed (\d+)", (_ROOT / "Makefile").read_text())
    assert len(drawn) == 3 and seen.isdisjoint(map(int, drawn))
    assert inspect.signature(phantoms).parameters["seed"].default not in seen
    assert all(f"`{seed}`" in _PAGE for seed in seen), "the page names the seeds to keep away from"


def test_the_page_lists_every_picture_with_its_licence() -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|$", _PAGE, flags=re.MULTILINE))
    assert {name: licence.strip() for name, licence in rows.items()} == PICTURES


def test_the_shape_file_ships_beside_the_weights() -> None:
    shape = json.loads(resources.files("madclip").joinpath("nano/nano.json").read_text())
    assert shape["vision_cfg"]["image_size"] == 240


def test_without_any_training_lesion_words_are_nearer_to_phantoms_with_lesions(nano: Encoder) -> None:
    """Forty phantoms that pretraining has not seen; 0.93 on four hundred, and chance would hardly ever reach 0.75."""
    drawn = [make_phantom(4242, index // 2, abnormal=bool(index % 2)).image for index in range(40)]
    images = np.stack([np.repeat(grey[..., None], 3, axis=2) for grey in drawn])
    labels = [index % 2 for index in range(40)]
    assert roc_auc_score(labels, zero_shot(nano, images, "Brain")) > 0.75
