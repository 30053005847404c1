"""Which series a head is for: by modality, body part and description, as Orthanc tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from madclip_runtime.node.identity import key_of

__all__ = ["MANUFACTURER", "OBJECTS", "Rule", "is_ours"]

OBJECTS = ("sc", "seg", "sr")
MANUFACTURER = "madclip"
"""In every object of ours; a series that has it is a result, and never looked at."""


@dataclass(frozen=True)
class Rule:
    """[rule NAME]. modality, body_part, description: patterns with * and ?, several with | between them, letter case
    doesn't matter; one that is left away fits everything. head: of the bundle, "" for its only one. objects: which are
    written. overlays: most pictures, of the highest scores. images: a series of more is set aside.
    """

    name: str
    modality: str
    body_part: str = "*"
    description: str = "*"
    head: str = ""
    operating_point: str = ""
    window: str = ""
    objects: tuple[str, ...] = OBJECTS
    overlays: int = 3
    images: int = 2000

    def __post_init__(self) -> None:
        unknown = [name for name in self.objects if name not in OBJECTS]
        if unknown or not self.objects:
            raise ValueError(f"objects must be some of {' '.join(OBJECTS)}")
        if not (1 <= self.overlays <= 100 and 1 <= self.images <= 20_000):
            raise ValueError("overlays must be in 1–100, images in 1–20000")

    def fits(self, tags: Mapping[str, str]) -> bool:
        """tags: Orthanc's MainDicomTags of a series."""
        wanted = (
            (self.modality, "Modality"),
            (self.body_part, "BodyPartExamined"),
            (self.description, "SeriesDescription"),
        )
        return all(_fits(pattern, str(tags.get(tag, ""))) for pattern, tag in wanted)

    def key(self, instances: list[str], digest: str, threshold: float | None) -> str:
        """Of what this rule makes of these images. digest: of the bundle."""
        return key_of(instances, digest, self.head, threshold, self.window, " ".join(self.objects), self.overlays)


def is_ours(tags: Mapping[str, str]) -> bool:
    """Whether a series is a result of this node."""
    return tags.get("Manufacturer") == MANUFACTURER


def _fits(pattern: str, text: str) -> bool:
    return any(fnmatchcase(text.strip().upper(), one.strip().upper()) for one in pattern.split("|"))
