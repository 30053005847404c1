"""Source images as the writers need them: headers without pixels, and whether they have what an object asks for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from madclip_runtime.errors import InputRefused

__all__ = ["geometry_fault", "read_sources"]

_PLACED = ("FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_SAME = ("FrameOfReferenceUID", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
_TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
_NAMED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


def read_sources(files: Sequence[Path]) -> list[Any]:
    """Their data sets without pixels, of pydicom. Raises: InputRefused where one names itself or its study not."""
    import pydicom

    found = []
    for number, path in enumerate(files, 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path, stop_before_pixels=True)
            for name in _NAMED:
                if not str(data.get(name) or ""):
                    raise InputRefused(f"image {number}", f"has no {name}, by which a result could refer to it")
            _fill_in(data)
        found.append(data)
    return found


def geometry_fault(sources: Sequence[Any]) -> str:
    """Why these images can't lie in one segmentation; "" where they can."""
    for name in _PLACED:
        if any(not source.get(name) for source in sources):
            return f"the source has no {name}"
    for name in _SAME:
        values = {_comparable(source.get(name)) for source in sources}
        if len(values) > 1:
            return f"its images differ in {name}"
    places = {tuple(float(v) for v in source.ImagePositionPatient) for source in sources}
    return "" if len(places) == len(sources) else "several of its images lie in one place"


def _fill_in(data: Any) -> None:
    """Attributes that an object must have, if empty (type 2), and that sources leave out."""
    for name in _TYPE_2:
        if name not in data:
            setattr(data, name, "")


def _comparable(value: Any) -> Any:
    if value is None or isinstance(value, (str, int)):
        return value
    return tuple(np.round([float(one) for one in value], 4))
