"""The queries' images: encoded bytes in memory, all different, in a seeded order.

Bytes, not pixels: decoding belongs to the latency. Names of used images stay out of every report, since a hospital's
file names may hold a patient's; their hashes stand in.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import read_image
from madclip_runtime.inputs import find_images

__all__ = [
    "LEAST_DISTINCT",
    "ImageCard",
    "ImageSet",
    "RefusedImage",
    "folder_images",
    "listed_images",
    "query_order",
    "synthetic_images",
]

LEAST_DISTINCT = 64
MAX_IMAGES = 1024
MAX_TOTAL_BYTES = 2**30
"""Queries are served from memory; a larger folder is sampled by the seed, and the report says how many were used."""
_SIDE = 512


@dataclass(frozen=True)
class RefusedImage:
    """An image of the folder that could not be read, by its name within the folder."""

    file: str
    why: str


@dataclass(frozen=True)
class ImageCard:
    """What the report says of the images. sha256: one hash over all used images' hashes, sorted.

    found: files with an image ending (0 for synthetic ones). used: distinct images the queries were drawn from.
    duplicates, left_out: not used because their bytes were there already, or because there were enough.
    """

    source: str
    synthetic: bool
    found: int
    used: int
    duplicates: int
    left_out: int
    encoded_bytes: int
    sha256: str
    refused: tuple[RefusedImage, ...] = ()


@dataclass
class ImageSet:
    """Encoded images under their hashes, in the order they came."""

    by_hash: dict[str, bytes] = field(default_factory=dict)
    refused: list[RefusedImage] = field(default_factory=list)
    found: int = 0
    duplicates: int = 0
    left_out: int = 0
    synthetic: bool = False

    @property
    def encoded(self) -> tuple[bytes, ...]:
        """The images' bytes; the index of a query points in here."""
        return tuple(self.by_hash.values())

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each image's bytes, lower-case hex, in the same order."""
        return tuple(self.by_hash)

    @property
    def encoded_bytes(self) -> int:
        """All of them together, in memory."""
        return sum(map(len, self.by_hash.values()))

    def _source(self) -> str:
        if self.found:
            return "a folder of synthetic phantoms" if self.synthetic else "a folder of images"
        return f"synthetic images, {_SIDE}×{_SIDE} grey PNG"

    def add(self, data: bytes) -> None:
        """Keep an image unless these bytes are here already."""
        digest = hashlib.sha256(data).hexdigest()
        self.duplicates += digest in self.by_hash
        self.by_hash[digest] = data

    def card(self) -> ImageCard:
        """What the report says of them."""
        together = hashlib.sha256("".join(sorted(self.hashes)).encode()).hexdigest()
        return ImageCard(
            source=self._source(),
            synthetic=self.synthetic,
            found=self.found,
            used=len(self.by_hash),
            duplicates=self.duplicates,
            left_out=self.left_out,
            encoded_bytes=self.encoded_bytes,
            sha256=together,
            refused=tuple(sorted(self.refused, key=lambda image: image.file)),
        )


def folder_images(folder: Path, seed: int) -> ImageSet:
    """Every readable, distinct image of a folder, up to 1,024 images or 1 GiB, then a seeded choice among them.

    Raises: InputRefused where the folder is missing or none of its images can be read.
    """
    if not folder.is_dir():
        raise InputRefused(str(folder), "no such folder", "name a folder of images, or leave --images away")
    jobs, _ = find_images([str(folder)], folder)
    return listed_images([job.source for job in jobs], folder, seed)


def listed_images(files: Sequence[Path], folder: Path, seed: int, *, synthetic: bool = False) -> ImageSet:
    """The same from files below a folder. synthetic: they are phantoms. Raises: InputRefused where none can be read."""
    chosen = ImageSet(found=len(files), synthetic=synthetic)
    for index in np.random.default_rng(seed).permutation(len(files)):
        if len(chosen.by_hash) >= MAX_IMAGES or chosen.encoded_bytes >= MAX_TOTAL_BYTES:
            chosen.left_out += 1
            continue
        _add_file(chosen, files[index], folder)
    if not chosen.by_hash:
        first = chosen.refused[0]
        raise InputRefused(str(folder), f"none of its {len(files)} images can be read ({first.file}: {first.why})")
    return chosen


def synthetic_images(seed: int, count: int = LEAST_DISTINCT) -> ImageSet:
    """Seeded grey images that resemble no patient: smooth blobs of full contrast under fine noise."""
    images = ImageSet(synthetic=True)
    for index in range(count):
        pixels = _blobs(np.random.default_rng([seed, index]))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        images.add(buffer.getvalue())
    return images


def query_order(count: int, seed: int) -> Iterator[int]:
    """Indices without end: each pass over the images is a new seeded permutation, so that none is favoured."""
    generator = np.random.default_rng(seed)
    while True:
        yield from map(int, generator.permutation(count))


def _add_file(images: ImageSet, path: Path, folder: Path) -> None:
    name = str(path.relative_to(folder))
    try:
        read_image(path, name=name)
        images.add(path.read_bytes())
    except InputRefused as error:
        images.refused.append(RefusedImage(error.what, error.why))
    except OSError as error:  # gone between the two reads
        refusal = InputRefused(name, error.strerror or str(error))
        images.refused.append(RefusedImage(refusal.what, refusal.why))


def _blobs(generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """uint8 [512, 512] grey: three octaves of smooth noise stretched to 16–240, ± 6 of pixel noise."""
    field_ = np.zeros((_SIDE, _SIDE), dtype=np.float32)
    for cells in (4, 12, 40):
        coarse = generator.standard_normal((cells, cells), dtype=np.float32)
        smooth = Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
        field_ += np.asarray(smooth, dtype=np.float32) * (4 / cells)
    low, high = float(field_.min()), float(field_.max())
    grey = 16 + (field_ - low) * (224 / (high - low))
    noisy = grey + generator.uniform(-6, 6, (_SIDE, _SIDE))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
