"""The _AD layout: what is wrong is said before anything is trained, and a seed fixes the shots."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from madclip.checkpoint import Checkpoint
from madclip.config import MethodConfig, TrainConfig, objective_for
from madclip.data import Dataset, choose_shots, listed_shots, open_dataset
from madclip.encoder import Encoder
from madclip.reading import load_cases
from madclip.train import Surroundings, train
from madclip_runtime.errors import InputRefused, UsageError


@pytest.fixture
def copy(phantom_data: Dataset, tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantom_data.root, tmp_path / "Brain-phantoms_AD"))


def test_counts_name_and_synthetic(phantom_data: Dataset) -> None:
    assert phantom_data.name == "Brain-phantoms" and phantom_data.masks and phantom_data.synthetic
    assert sum(case.abnormal for case in phantom_data.valid) == 6 and len(phantom_data.test) == 12


def test_a_seed_fixes_the_shots_and_the_rest_is_the_rest(phantom_data: Dataset) -> None:
    first, rest = choose_shots(phantom_data.valid, 3, 111)
    again, _ = choose_shots(tuple(reversed(phantom_data.valid))[::-1], 3, 111)
    other, _ = choose_shots(phantom_data.valid, 3, 112)
    assert first == again and first != other
    assert sum(case.abnormal for case in first) == 3 and len(first) == 6
    assert {c.image for c in first} | {c.image for c in rest} == {c.image for c in phantom_data.valid}
    assert not {c.image for c in first} & {c.image for c in rest}


def test_more_shots_than_images_is_refused(phantom_data: Dataset) -> None:
    with pytest.raises(UsageError, match="only 6 normal"):
        choose_shots(phantom_data.valid, 7, 0)


def test_masks_match_images_after_resizing(phantom_data: Dataset) -> None:
    abnormal = tuple(case for case in phantom_data.test if case.abnormal)
    loaded = load_cases(abnormal, 120)
    for case, mask in zip(abnormal, loaded.masks, strict=True):
        assert case.mask is not None
        full = np.array(Image.open(case.mask)) > 127
        assert mask.shape == (120, 120)
        assert abs(mask.mean() - full.mean()) < 0.01
        ys, xs = np.nonzero(mask)
        big_ys, big_xs = np.nonzero(full)
        assert abs(ys.mean() * 2 - big_ys.mean()) < 2 and abs(xs.mean() * 2 - big_xs.mean()) < 2


def test_missing_masks_and_folders_are_named(copy: Path, tmp_path: Path) -> None:
    mask = next((copy / "valid/Ungood/anomaly_mask").iterdir())
    mask.unlink()
    with pytest.raises(InputRefused, match=mask.name):
        open_dataset(copy)
    with pytest.raises(InputRefused, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    shutil.rmtree(copy / "test/good")
    shutil.rmtree(copy / "valid/Ungood/anomaly_mask")
    shutil.rmtree(copy / "test/Ungood/anomaly_mask")
    with pytest.raises(InputRefused, match="no images"):
        open_dataset(copy)


def test_masks_may_be_partial_only_where_that_is_said(copy: Path) -> None:
    masks = sorted((copy / "valid/Ungood/anomaly_mask").iterdir())
    for mask in masks[:4]:
        mask.unlink()
    with pytest.raises(InputRefused, match="--partial-masks"):
        open_dataset(copy)
    opened = open_dataset(copy, partial_masks=True)
    loaded = load_cases(opened.valid, 64)
    unknown = [case.image.name for case in opened.valid if not case.mask_known]
    assert opened.masks and unknown == [mask.name for mask in masks[:4]]
    assert (~loaded.mask_known).sum() == 4 and not loaded.masks[~loaded.mask_known].any()
    assert loaded.mask_known[loaded.labels == 0].all(), "a normal image has no lesion: that is known"


def test_a_mask_of_more_than_two_levels_is_refused_and_one_of_ones_is_taken(copy: Path) -> None:
    first, second = sorted((copy / "valid/Ungood/anomaly_mask").iterdir())[:2]
    pixels = np.array(Image.open(first))
    Image.fromarray((pixels > 0).astype(np.uint8)).save(first)
    abnormal = [case for case in open_dataset(copy).valid if case.abnormal]
    assert (load_cases((abnormal[0],), 240).masks[0] == (pixels > 0)).all(), "0 and 1 are two levels too"
    labels = np.array(Image.open(second))
    labels[labels > 0] = 2
    labels[tuple(np.argwhere(labels)[0])] = 1
    Image.fromarray(labels).save(second)
    with pytest.raises(InputRefused, match="3 grey levels"):
        load_cases(tuple(abnormal), 64)


def test_a_set_without_masks_is_an_image_level_set(copy: Path) -> None:
    for split in ("valid", "test"):
        shutil.rmtree(copy / split / "Ungood/anomaly_mask")
    opened = open_dataset(copy)
    assert not opened.masks and all(case.mask is None for case in opened.valid)


def test_all_faults_are_listed_at_once(copy: Path) -> None:
    opened = open_dataset(copy)
    bad = [case for case in opened.valid if case.abnormal][:3]
    bad[0].image.write_bytes(b"not an image")
    assert bad[1].mask is not None and bad[2].mask is not None
    Image.new("L", (10, 10), 255).save(bad[1].mask)
    Image.new("L", (240, 240), 0).save(bad[2].mask)
    with pytest.raises(InputRefused) as caught:
        load_cases(opened.valid, 64)
    text = str(caught.value)
    assert "3 of 12" in text and bad[0].image.name in text and "one size" in text and "empty" in text


@pytest.mark.parametrize(
    ("name", "objective", "known"),
    [("BrainBraTS", "Brain", True), ("Retina_RESC", "retinal OCT", True), ("Knee", "medical image", False)],
)
def test_objective_by_name(name: str, objective: str, known: bool) -> None:
    assert objective_for(name) == (objective, known)


def test_shots_by_a_list_in_the_authors_format(phantom_data: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "2-shot.txt"
    file.write_text(
        "n-0: normal_0003.png normal_0001.png\na-0: lesion_0000.png lesion_0005.png \n"
        "n-1: normal_0002.png normal_0099.png\na-1: lesion_0001.png lesion_0001.png\n"
    )
    shots, rest = listed_shots(phantom_data.valid, file, 0)
    names = [case.image.name for case in shots]
    assert names == ["normal_0003.png", "normal_0001.png", "lesion_0000.png", "lesion_0005.png"]
    assert len(rest) == 8 and not set(names) & {case.image.name for case in rest}
    with pytest.raises(InputRefused, match=r"normal_0099\.png"):
        listed_shots(phantom_data.valid, file, 1)
    with pytest.raises(InputRefused, match="n-2"):
        listed_shots(phantom_data.valid, file, 2)
    with pytest.raises(InputRefused, match="No such file"):
        listed_shots(phantom_data.valid, tmp_path / "none.txt", 0)


def test_an_uneven_list_needs_a_word(phantom_data: Dataset, mini_encoder: Encoder, tmp_path: Path) -> None:
    file = tmp_path / "uneven.txt"
    file.write_text("n-0: normal_0000.png normal_0001.png\na-0: lesion_0000.png\n")
    config = TrainConfig(seed=1, epochs=1, shot_list=str(file))

    def run(config: TrainConfig) -> Checkpoint:
        return train(phantom_data, mini_encoder, MethodConfig("Brain"), config, Surroundings())

    with pytest.raises(UsageError, match="--allow-unbalanced"):
        run(config)
    card = run(dataclasses.replace(config, allow_unbalanced=True)).card
    assert (card.data.normal_shots, card.data.abnormal_shots) == (2, 1)


@pytest.mark.shared
def test_the_authors_lists_name_files_that_are_there(shared: Path) -> None:
    for file in sorted((shared / "reference/shots").glob("*-16.txt")):
        dataset = open_dataset(shared / "data" / f"{file.name.removesuffix('-16.txt')}_AD")
        for index in range(3):
            shots, _ = listed_shots(dataset.valid, file, index)
            assert len(shots) == 32
