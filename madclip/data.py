"""The `_AD` folder layout: found, checked, and split into shots and the rest. No pixel is read here.

`<Name>_AD/{valid,test}/{good,Ungood}/img/*`, masks in `Ungood/anomaly_mask/` under the same file name.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from madclip_runtime.errors import InputRefused, UsageError
from madclip_runtime.imaging import SUFFIXES
from madclip_runtime.window import Window

__all__ = ["Case", "Dataset", "choose_shots", "listed_shots", "open_dataset"]

_PHANTOM_CARD = "phantoms.json"
_PREPARED_CARD = "card.json"


@dataclass(frozen=True)
class Case:
    """One labelled image. mask: its mask's file, None for normal images and for those without one."""

    image: Path
    abnormal: bool
    mask: Path | None

    @property
    def mask_known(self) -> bool:
        """Whether it is known which pixels are abnormal: a normal image has none."""
        return self.mask is not None or not self.abnormal


@dataclass(frozen=True)
class Dataset:
    """A checked folder. name: without the "_AD". masks: whether its abnormal images, or some of them, have masks.

    window: which measured values became black and white, where `madclip prepare` made the folder from such.
    """

    name: str
    root: Path
    valid: tuple[Case, ...]
    test: tuple[Case, ...]
    masks: bool
    synthetic: bool
    window: Window | None = None


def open_dataset(folder: Path, *, partial_masks: bool = False) -> Dataset:
    """Look through the layout without reading pixels.

    partial_masks: whether abnormal images may lack a mask in a set that has masks. Raises: InputRefused naming what is
    missing.
    """
    if not folder.is_dir():
        raise InputRefused(str(folder), "no such folder", "give a folder in the <Name>_AD layout (docs/data.md)")
    masks = (folder / "valid/Ungood/anomaly_mask").is_dir() or (folder / "test/Ungood/anomaly_mask").is_dir()
    name = folder.resolve().name
    return Dataset(
        name=name.removesuffix("_AD"),
        root=folder,
        valid=_split(folder / "valid", masks=masks, partial=partial_masks),
        test=_split(folder / "test", masks=masks, partial=partial_masks),
        masks=masks,
        synthetic=_is_phantom(folder),
        window=_window_of(folder),
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


def _line_of(file: Path, key: str) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputRefused(str(file), str(error), "give a list in the authors' format (docs/data.md)") from None
    found = [line.partition(":")[2].split() for line in lines if line.partition(":")[0].strip() == key]
    if len(found) != 1 or not found[0]:
        raise InputRefused(str(file), f"has {len(found)} filled lines {key}:", "choose another --list-index")
    return found[0]


def _split(folder: Path, *, masks: bool, partial: bool) -> tuple[Case, ...]:
    good = [Case(path, False, None) for path in _images(folder / "good/img")]
    bad = [Case(path, True, _mask_of(path) if masks else None) for path in _images(folder / "Ungood/img")]
    missing = [case.image.name for case in bad if masks and case.mask is None]
    if missing and not partial:
        names = ", ".join(missing[:5])
        do = "add the masks, or say --partial-masks: then these train and test the image score only"
        raise InputRefused(str(folder), f"{len(missing)} abnormal images have no mask: {names}", do)
    return tuple(good + bad)


def _images(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise InputRefused(str(folder), "no images there", "the <Name>_AD layout is described in docs/data.md")
    return found


def _mask_of(image: Path) -> Path | None:
    mask = image.parent.parent / "anomaly_mask" / image.name
    return mask if mask.is_file() else None


def _window_of(folder: Path) -> Window | None:
    """What prepare noted in card.json; "file" there means each file's own, which is no rule for other files."""
    try:
        options = json.loads((folder / _PREPARED_CARD).read_text())["options"]
        low, high = options["window_low_high"]
        window = Window(str(options["window"]), low, high)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if window.name == "file" else window


def _is_phantom(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _PHANTOM_CARD).read_text())["synthetic"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
