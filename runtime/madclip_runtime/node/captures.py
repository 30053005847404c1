"""Secondary Capture: the overlay pictures, one series, in the order of the images they belong to."""

from __future__ import annotations

from typing import Any

from madclip_runtime.node.maker import NOTICE, Maker

__all__ = ["captures"]

_EXPLICIT = "1.2.840.10008.1.2.1"


def captures(maker: Maker) -> list[Any]:
    """A data set each, 8-bit RGB."""
    return [_capture(maker, place, number) for number, place in enumerate(maker.findings.overlays, 1)]


def _capture(maker: Maker, place: int, number: int) -> Any:
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset

    source, image = maker.sources[place], maker.findings.images[place]
    capture = SCImage.from_ref_dataset(
        source,
        pixel_array=maker.findings.overlays[place],
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),  # highdicom wants one; the truth follows below
        transfer_syntax_uid=_EXPLICIT,
        **maker.equipment,
        **maker.common("sc", number),
    )
    capture.SeriesDescription = "madclip overlay, research use only"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.PatientOrientation = _orientation(source)
    capture.Laterality = _laterality(source)  # empty where nothing is known; a paired body part asks for the attribute
    told = (
        f"image {place + 1} of {len(maker.sources)}, score {image.score:.4f} {image.decision}; {maker.model}; {NOTICE}"
    )
    capture.DerivationDescription = told
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    capture.SourceImageSequence = [reference]
    if source.get("BurnedInAnnotation") in ("YES", "NO"):  # what is burnt in stays so; without a word we know nothing
        capture.BurnedInAnnotation = source.BurnedInAnnotation
    return capture


def _orientation(source: Any) -> list[str]:
    """Where rows and columns lead, by their main direction; both panels lie as the source does. Empty if unknown."""
    directions = source.get("ImageOrientationPatient")
    if not directions or len(directions) != 6:
        told = source.get("PatientOrientation")
        return [str(one) for one in told] if told and len(told) == 2 else []
    return [_letter([float(one) for one in directions[at : at + 3]]) for at in (0, 3)]


def _laterality(source: Any) -> str:
    """L or R of the whole series, empty where the source has no such word."""
    told = str(source.get("Laterality") or source.get("ImageLaterality") or "")
    return told if told in ("L", "R") else ""


def _letter(direction: list[float]) -> str:
    axis = max(range(3), key=lambda place: abs(direction[place]))
    return ("LR", "PA", "HF")[axis][direction[axis] < 0]
