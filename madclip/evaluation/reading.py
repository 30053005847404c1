"""Test images in chunks: never more than one chunk of images and maps in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from madclip.data import Case, Loaded, load_cases
from madclip.model import Answers, Model
from madclip_runtime.errors import InputRefused

__all__ = ["CHUNK", "read_chunks", "scored_chunks"]

CHUNK = 32
"""Images at a time: about 15 MB of pixels, masks and maps at 240 × 240."""
_MOST_NAMED = 10


def read_chunks(cases: tuple[Case, ...], size: int, chunk: int = CHUNK) -> Iterator[tuple[slice, Loaded]]:
    """Which cases, and their pixels as `data.load_cases` gives them, `chunk` at a time.

    At the first fault, nothing more is yielded: the rest is read through, and one refusal names all that can't be used.
    Raises: InputRefused.
    """
    for start in range(0, len(cases), chunk):
        part = slice(start, start + chunk)
        try:
            loaded = load_cases(cases[part], size)
        except InputRefused:
            _refuse(cases, start, size)
            raise
        yield part, loaded


def scored_chunks(model: Model, cases: tuple[Case, ...]) -> Iterator[tuple[slice, Loaded, Answers]]:
    """The same with the model's answers; one progress bar on stderr, if a terminal. Raises: InputRefused."""
    with tqdm(total=len(cases), desc="scoring", unit="image", disable=None) as bar:
        for part, loaded in read_chunks(cases, model.encoder.spec.image_size):
            answers = model.reference(np.ascontiguousarray(loaded.images), progress=False)
            yield part, loaded, answers
            bar.update(len(loaded.images))


def _refuse(cases: tuple[Case, ...], start: int, size: int) -> None:
    faults = []
    for case in cases[start:]:
        try:
            load_cases((case,), size)
        except InputRefused as error:
            faults.append(error.why)
    named = "; ".join(faults[:_MOST_NAMED]) + ("; …" if len(faults) > _MOST_NAMED else "")
    if faults:
        raise InputRefused(f"{len(faults)} of {len(cases)} test images", named, "mend or remove them")
