"""A data set's images as arrays: all at once, chunk by chunk, or chunk by chunk with a model's answers.

Whatever can't be used is found by reading, and all of it is named in one refusal, not only the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from madclip.data import Case
from madclip.model import Answers, Model
from madclip_runtime.errors import InputRefused
from madclip_runtime.imaging import read_image
from madclip_runtime.preprocess import to_model_input

__all__ = ["CHUNK", "Loaded", "check_cases", "load_cases", "read_chunks", "scored_chunks"]

CHUNK = 32
"""Images at a time: about 15 MB of pixels, masks and maps at 240 × 240."""
_MOST_NAMED = 10


@dataclass(frozen=True)
class Loaded:
    """Cases in memory, preprocessed.

    images: uint8 [N, S, S, 3] RGB. labels: int64 [N], 1 abnormal. masks: bool [N, S, S], all False where normal or
    where there is none. mask_known: bool [N], False for abnormal images without a mask.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    masks: npt.NDArray[np.bool_]
    mask_known: npt.NDArray[np.bool_]


def check_cases(cases: tuple[Case, ...], size: int) -> None:
    """Read every case once and forget it. Raises: InputRefused naming all that can't be used."""
    faults = []
    for case in tqdm(cases, desc="checking images", unit="image", disable=None, leave=False):
        try:
            _read(case, size)
        except InputRefused as error:
            faults.append(error.line())
    _refuse(faults, len(cases))


def load_cases(cases: tuple[Case, ...], size: int) -> Loaded:
    """Read and preprocess every case. Raises: InputRefused naming all that can't be used."""
    images, masks, faults = [], [], []
    for case in cases:
        try:
            image, mask = _read(case, size)
        except InputRefused as error:
            faults.append(error.line())
            continue
        images.append(image)
        masks.append(mask)
    _refuse(faults, len(cases))
    labels = np.array([case.abnormal for case in cases], dtype=np.int64)
    return Loaded(np.stack(images), labels, np.stack(masks), np.array([case.mask_known for case in cases]))


def read_chunks(cases: tuple[Case, ...], size: int, chunk: int = CHUNK) -> Iterator[tuple[slice, Loaded]]:
    """Which cases, and their pixels as `load_cases` gives them, `chunk` at a time.

    At the first fault, nothing more is yielded: the rest is read through, and one refusal names all that can't be used.
    Raises: InputRefused.
    """
    for start in range(0, len(cases), chunk):
        part = slice(start, start + chunk)
        try:
            loaded = load_cases(cases[part], size)
        except InputRefused:
            check_cases(cases[start:], size)
            raise
        yield part, loaded


def scored_chunks(model: Model, cases: tuple[Case, ...]) -> Iterator[tuple[slice, Loaded, Answers]]:
    """The same with the model's answers; one progress bar on stderr, if a terminal. Raises: InputRefused."""
    with tqdm(total=len(cases), desc="scoring", unit="image", disable=None) as bar:
        for part, loaded in read_chunks(cases, model.encoder.spec.image_size):
            answers = model.reference(np.ascontiguousarray(loaded.images), progress=False)
            yield part, loaded, answers
            bar.update(len(loaded.images))


def _read(case: Case, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    decoded = read_image(case.image)
    height, width = decoded.pixels.shape[:2]
    return to_model_input(decoded.pixels, size), _read_mask(case, (height, width), size)


def _read_mask(case: Case, shape: tuple[int, int], size: int) -> npt.NDArray[np.bool_]:
    """Two levels, zero and lesion, whatever the second is; nearest neighbour keeps it so at the model's size."""
    if case.mask is None:
        return np.zeros((size, size), dtype=np.bool_)
    pixels = read_image(case.mask).pixels
    if pixels.shape[:2] != shape:
        raise InputRefused(str(case.mask), f"is {pixels.shape[:2]}, its image {shape}", "both must have one size")
    grey = pixels.max(axis=2)
    levels = np.unique(grey)
    if not levels.any():
        raise InputRefused(str(case.mask), "an abnormal image's mask is empty (no pixel above zero)")
    if len(levels) > 2 or (len(levels) == 2 and levels[0] != 0):
        found = f"has {len(levels)} grey levels, {levels[0]} to {levels[-1]}; a mask has two, zero and lesion"
        raise InputRefused(str(case.mask), found, "threshold it, and save it without loss (PNG)")
    rows = (np.arange(size) + 0.5) * shape[0] / size
    columns = (np.arange(size) + 0.5) * shape[1] / size
    lesion: npt.NDArray[np.bool_] = grey > 0
    return lesion[rows.astype(np.intp)[:, None], columns.astype(np.intp)[None, :]]


def _refuse(faults: list[str], count: int) -> None:
    if faults:
        named = "; ".join(faults[:_MOST_NAMED]) + ("; …" if len(faults) > _MOST_NAMED else "")
        raise InputRefused(f"{len(faults)} of {count} images", named, "mend or remove them")
