"""Coded words of what is written: standard ones where they say what is meant, else our own scheme, 99MADCLIP."""

from __future__ import annotations

from typing import Any

__all__ = ["PROPERTY_CATEGORY", "PROPERTY_TYPE", "SCHEME", "SCHEME_NAME", "code"]

SCHEME, SCHEME_NAME = "99MADCLIP", "madclip's own words (docs/conformance.md)"
PROPERTY_CATEGORY, PROPERTY_TYPE = "abnormal-structure", "region"

_CODES = {
    # SNOMED CT and DCM, where the word is theirs
    "abnormal-structure": ("49755003", "SCT", "Morphologically Abnormal Structure"),
    "imaging-procedure": ("363679005", "SCT", "Imaging procedure"),
    "artificial-intelligence": ("123109", "DCM", "Artificial Intelligence"),
    "no-units": ("1", "UCUM", "no units"),
    "device": ("121007", "DCM", "Device"),
    "report": ("126000", "DCM", "Imaging Measurement Report"),
    # ours: a score is no probability, and what reaches a threshold is no lesion
    "region": ("region", SCHEME, "region at or above the threshold"),
    "score": ("score", SCHEME, "anomaly score of an image"),
    "threshold": ("threshold", SCHEME, "threshold that decides"),
    "decision": ("decision", SCHEME, "decision at the threshold"),
    "normal": ("normal", SCHEME, "below the threshold"),
    "abnormal": ("abnormal", SCHEME, "at or above the threshold"),
    "borderline": ("borderline", SCHEME, "too close to the threshold to call"),
    "uncalibrated": ("uncalibrated", SCHEME, "no threshold"),
    "anomaly": ("anomaly", SCHEME, "anomaly scoring, research use only"),
}


def code(word: str) -> Any:
    """As highdicom's CodedConcept."""
    from highdicom.sr import CodedConcept

    value, scheme, meaning = _CODES[word]
    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)
