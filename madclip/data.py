"""The `_AD` folder layout: found, checked, and split into shots and the rest.

`<Name>_AD/{valid,test}/{good,Ungood}/img/*`, masks in `Ungood/anomaly_mask/` under the same file name.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import InputRefused, UsageError
from madclip_runtime.imaging import SUFFIXES, read_image
from madclip_runtime.preprocess import to_model_input

__all__ = ["Case", "Dataset", "Loaded", "choose_shots", "listed_shots", "load_cases", "open_dataset"]

_PHANTOM_CARD = "phantoms.json"


@dataclass(frozen=True)
class Case:
    """One labelled image. mask: its mask's file, None for normal images and for sets without masks."""

    image: Path
    abnormal: bool
    mask: Path | None


@dataclass(frozen=True)
class Dataset:
    """A checked folder. name: without the "_AD". masks: whether its abnormal images have masks."""

    name: str
    root: Path
    valid: tuple[Case, ...]
    test: tuple[Case, ...]
    masks: bool
    synthetic: bool


@dataclass(frozen=True)
class Loaded:
    """Cases in memory, preprocessed.

    images: uint8 [N, S, S, 3] RGB. labels: int64 [N], 1 abnormal. masks: bool [N, S, S], all False where normal or
    where the set has none.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    masks: npt.NDArray[np.bool_]


def open_dataset(folder: Path) -> Dataset:
    """Look through the layout without reading pixels. Raises: InputRefused naming what is missing."""
    if not folder.is_dir():
        raise InputRefused(str(folder), "no such folder", "give a folder in the <Name>_AD layout (docs/data.md)")
    masks = (folder / "valid/Ungood/anomaly_mask").is_dir() or (folder / "test/Ungood/anomaly_mask").is_dir()
    name = folder.resolve().name
    return Dataset(
        name=name.removesuffix("_AD"),
        root=folder,
        valid=_split(folder / "valid", masks=masks),
        test=_split(folder / "test", masks=masks),
        masks=masks,
        synthetic=_is_phantom(folder),
    )


def choose_shots(cases: tuple[Case, ...], shots: int, seed: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """`shots` normal and as many abnormal cases drawn by `seed` from the sorted list, and all the others.

    Raises: UsageError where a class has too few.
    """
    generator = random.Random(seed)
    chosen: list[Case] = []
    for abnormal in (False, True):
        pool = [case for case in cases if case.abnormal is abnormal]
        if len(pool) < shots:
            kind = "abnormal" if abnormal else "normal"
            raise UsageError(f"--shots {shots}", f"valid/ holds only {len(pool)} {kind} images", "ask for fewer")
        chosen += sorted(generator.sample(pool, shots), key=lambda case: case.image)
    taken = {case.image for case in chosen}
    return tuple(chosen), tuple(case for case in cases if case.image not in taken)


def listed_shots(cases: tuple[Case, ...], file: Path, index: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Shots by a list in the authors' format: lines `n-<index>: file …` and `a-<index>: file …`; and all the others.

    Raises: InputRefused where the list lacks the index, names a file twice, or one that valid/ doesn't hold.
    """
    by_key = {(case.abnormal, case.image.name): case for case in cases}
    chosen: list[Case] = []
    for letter, abnormal in (("n", False), ("a", True)):
        names = _line_of(file, f"{letter}-{index}")
        missing = [name for name in names if (abnormal, name) not in by_key]
        if missing or len(set(names)) != len(names):
            why = (
                f"{len(missing)} of its files are not in valid/: {', '.join(missing[:5])}"
                if missing
                else "a file twice"
            )
            raise InputRefused(f"{file}, {letter}-{index}", why, "use the list that belongs to this data set")
        chosen += [by_key[abnormal, name] for name in names]
    taken = {case.image for case in chosen}
    return tuple(chosen), tuple(case for case in cases if case.image not in taken)


def load_cases(cases: tuple[Case, ...], size: int) -> Loaded:
    """Read and preprocess every case. Raises: InputRefused listing all that can't be used, not only the first."""
    images, masks, faults = [], [], []
    for case in cases:
        try:
            decoded = read_image(case.image)
            images.append(to_model_input(decoded.pixels, size))
            masks.append(_read_mask(case, decoded.pixels.shape[:2], size))
        except InputRefused as error:
            faults.append(error.line())
    if faults:
        raise InputRefused(f"{len(faults)} of {len(cases)} images", "; ".join(faults[:10]), "mend or remove them")
    labels = np.array([case.abnormal for case in cases], dtype=np.int64)
    return Loaded(np.stack(images), labels, np.stack(masks))


def _line_of(file: Path, key: str) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputRefused(str(file), str(error), "give a list in the authors' format (docs/data.md)") from None
    found = [line.partition(":")[2].split() for line in lines if line.partition(":")[0].strip() == key]
    if len(found) != 1 or not found[0]:
        raise InputRefused(str(file), f"has {len(found)} filled lines {key}:", "choose another --list-index")
    return found[0]


def _split(folder: Path, *, masks: bool) -> tuple[Case, ...]:
    good = [Case(path, False, None) for path in _images(folder / "good/img")]
    bad = [Case(path, True, _mask_of(path) if masks else None) for path in _images(folder / "Ungood/img")]
    missing = [case.image.name for case in bad if masks and (case.mask is None or not case.mask.is_file())]
    if missing:
        names = ", ".join(missing[:5])
        raise InputRefused(str(folder), f"{len(missing)} abnormal images have no mask: {names}", "add the masks")
    return tuple(good + bad)


def _images(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise InputRefused(str(folder), "no images there", "the <Name>_AD layout is described in docs/data.md")
    return found


def _mask_of(image: Path) -> Path:
    return image.parent.parent / "anomaly_mask" / image.name


def _read_mask(case: Case, shape: tuple[int, ...], size: int) -> npt.NDArray[np.bool_]:
    """Any pixel above zero is lesion; nearest neighbour keeps it so at the model's size."""
    if case.mask is None:
        return np.zeros((size, size), dtype=np.bool_)
    pixels = read_image(case.mask).pixels
    if pixels.shape[:2] != shape[:2]:
        raise InputRefused(str(case.mask), f"is {pixels.shape[:2]}, its image {shape[:2]}", "both must have one size")
    lesion = pixels.max(axis=2) > 127
    if not lesion.any():
        raise InputRefused(str(case.mask), "an abnormal image's mask is empty (no pixel above 127)")
    rows = (np.arange(size) + 0.5) * shape[0] / size
    columns = (np.arange(size) + 0.5) * shape[1] / size
    return lesion[rows.astype(np.intp)[:, None], columns.astype(np.intp)[None, :]]


def _is_phantom(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _PHANTOM_CARD).read_text())["synthetic"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
