"""The queries' images: distinct, never flat, seeded; a folder's bad ones named and counted."""

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from madclip_bench import images as module
from madclip_bench.images import folder_images, query_order, synthetic_images
from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import read_image


def _png(seed: int, side: int = 20) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good images of which two are the same bytes, one empty, one truncated, one no image at all."""
    for name, data in {
        "a.png": _png(0),
        "b.png": _png(1),
        "deep/copy of a.png": _png(0),
        "empty.png": b"",
        "half.png": _png(2)[:-60],
        "notes.txt": b"not an image",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_synthetic_images_are_64_different_ones_and_none_is_flat() -> None:
    images = synthetic_images(seed=0)
    decoded = [read_image(data).pixels for data in images.encoded]
    assert len(decoded) == len(set(images.hashes)) == 64
    assert len({pixels.tobytes() for pixels in decoded}) == 64
    assert all(pixels.shape == (512, 512, 3) and pixels.std() > 15 and np.ptp(pixels) > 150 for pixels in decoded)
    assert images.card().synthetic and "synthetic images" in images.card().source


def test_the_seed_decides_the_synthetic_images() -> None:
    one, again, other = (synthetic_images(seed, count=2) for seed in (3, 3, 4))
    assert one.encoded == again.encoded
    assert not set(one.hashes) & set(other.hashes)


def test_a_folder_gives_its_readable_distinct_images_and_names_the_rest(folder: Path) -> None:
    card = folder_images(folder, seed=0).card()
    assert (card.found, card.used, card.duplicates, card.left_out, card.synthetic) == (5, 2, 1, 0, False)
    assert [image.file for image in card.refused] == ["empty.png", "half.png"]
    assert card.refused[0].why == "the file is empty"
    assert str(folder) not in repr(card)


def test_the_hash_of_a_set_does_not_depend_on_order(folder: Path) -> None:
    cards = [folder_images(folder, seed).card() for seed in range(4)]
    assert len({card.sha256 for card in cards}) == 1


def test_a_large_folder_is_sampled_and_the_rest_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGES", 1)
    card = folder_images(folder, seed=0).card()
    assert card.used == 1
    assert card.left_out + card.duplicates + len(card.refused) + card.used == card.found


def test_control_characters_in_a_name_do_not_reach_the_report(folder: Path) -> None:
    (folder / "bad\x1b[31m\n.png").write_bytes(b"")
    assert all(image.file.isprintable() for image in folder_images(folder, seed=0).refused)


def test_no_folder_no_image_none_readable_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="no such folder"):
        folder_images(tmp_path / "absent", seed=0)
    with pytest.raises(InputRefused, match="no image in this folder"):
        folder_images(tmp_path, seed=0)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputRefused, match="none of its 1 images can be read"):
        folder_images(tmp_path, seed=0)


def test_each_pass_uses_every_image_once_in_a_seeded_order() -> None:
    taken = list(itertools.islice(query_order(7, seed=5), 21))
    passes = [taken[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1]
    assert taken == list(itertools.islice(query_order(7, seed=5), 21))
