"""Phantoms as DICOM series: synthetic slices in whole MR or CR objects, nobody's images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from madclip.phantoms import make_phantom

__all__ = ["phantom_series", "study_uid"]

_ROOT = "1.2.826.0.1.3680043.10.9999"
"""A root of a kind that is given out for nothing; the numbers below it are this test's."""


def study_uid(number: int) -> str:
    """Of a phantom's study."""
    return f"{_ROOT}.{number}"


def phantom_series(
    number: int, *, count: int = 3, abnormal: bool = False, kind: str = "MR", size: int = 96, **fields: object
) -> list[bytes]:
    """count: slices, 4 mm apart. kind: "MR" with its place in space, "CR" without. fields overwrite elements."""
    return [_slice(number, place, abnormal, kind, size, fields) for place in range(count)]


def _slice(number: int, place: int, abnormal: bool, kind: str, size: int, fields: dict[str, object]) -> bytes:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, MRImageStorage

    sop_class = MRImageStorage if kind == "MR" else ComputedRadiographyImageStorage
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = f"{_ROOT}.{number}.1.{place + 1}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    _name(data, number, place, sop_class, kind)
    if kind == "MR":
        _place(data, number, place, size)
    else:
        data.ViewPosition, data.PatientOrientation = "PA", ["L", "F"]
    _pixels(data, make_phantom(number, place, abnormal=abnormal, size=size).image)
    for key, value in fields.items():
        setattr(data, key, value)
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _name(data: Any, number: int, place: int, sop_class: str, kind: str) -> None:
    data.SOPClassUID, data.SOPInstanceUID = sop_class, f"{_ROOT}.{number}.1.{place + 1}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{_ROOT}.{number}", f"{_ROOT}.{number}.1"
    data.PatientName, data.PatientID = f"Phantom^{number}", f"PHANTOM{number}"
    data.PatientBirthDate, data.PatientSex = "", "O"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20260101", "120000", str(number), ""
    data.ReferringPhysicianName, data.Manufacturer, data.Modality = "", "phantoms", kind
    data.SeriesNumber, data.InstanceNumber, data.ImageType = 1, place + 1, ["ORIGINAL", "PRIMARY", "OTHER"]
    data.BodyPartExamined, data.SeriesDescription = "HEAD", "phantom axial"


def _place(data: Any, number: int, place: int, size: int) -> None:
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = f"{_ROOT}.{number}.9", ""
    data.ImagePositionPatient, data.ImageOrientationPatient = [-size, -size, 4 * place], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness = [2, 2], 4
    data.ScanningSequence, data.SequenceVariant, data.ScanOptions, data.MRAcquisitionType = "SE", "NONE", "", "2D"
    data.PatientPosition = "HFS"
    data.EchoTime, data.RepetitionTime, data.EchoTrainLength = 10, 500, 1


def _pixels(data: Any, image: np.ndarray) -> None:
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.WindowCenter, data.WindowWidth = 2048, 4096
    data.PixelData = (image.astype(np.uint16) * 16).tobytes()
