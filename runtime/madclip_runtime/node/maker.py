"""What every object of one job has in common: its UIDs, its series, who made it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from madclip_runtime import __version__
from madclip_runtime.node.findings import Findings
from madclip_runtime.node.identity import uid_of
from madclip_runtime.node.rules import MANUFACTURER, Rule

__all__ = ["MODEL_NAME", "NOTICE", "Maker"]

NOTICE = "research use, not a medical device"
MODEL_NAME = "madclip-node"
_SERIES_NUMBERS = {"sc": 9301, "seg": 9302, "sr": 9303}


@dataclass(frozen=True)
class Maker:
    """What all objects of one job say of themselves. sources: data sets without pixels, in the order of the images."""

    key: str
    rule: Rule
    findings: Findings
    sources: list[Any]

    def common(self, kind: str, number: int = 1) -> dict[str, Any]:
        """highdicom's arguments that every object takes."""
        return {
            "series_instance_uid": uid_of(self.key, f"{kind} series"),
            "series_number": _SERIES_NUMBERS[kind],
            "sop_instance_uid": uid_of(self.key, kind, number),
            "instance_number": number,
            "manufacturer": MANUFACTURER,
        }

    @property
    def equipment(self) -> dict[str, Any]:
        """Which program, which bundle."""
        return {
            "manufacturer_model_name": MODEL_NAME,
            "software_versions": __version__,
            "device_serial_number": self.findings.detector.bundle.digest[:16],
        }

    @property
    def model(self) -> str:
        """The bundle and its head, in 64 characters at most, as LO takes."""
        return f"{self.findings.detector.bundle.manifest.model_id[:40]} {self.findings.detector.head}"[:64]
