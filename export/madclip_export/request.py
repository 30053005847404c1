"""What is asked for when a bundle is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from madclip_export.plans import PlanOptions

__all__ = ["Request"]


@dataclass(frozen=True)
class Request:
    """What is wanted of a bundle.

    precision: "fp32", "fp16" or "int8". golden: images that may travel in it. calibration: a folder of images that make
    int8 static (Q/DQ), None for dynamic. verify: a folder of images by head. degraded: why a missed gate is accepted,
    "" where it isn't. encoder_licence: of the encoder's weights, "" to look it up. notices: what else every result is
    to say. plans: what else is built from the graph that has passed.
    """

    precision: str
    golden: tuple[Path, ...] = ()
    calibration: Path | None = None
    verify: Mapping[str, Path] = field(default_factory=dict)
    degraded: str = ""
    encoder_licence: str = ""
    notices: tuple[str, ...] = ()
    plans: PlanOptions = field(default_factory=PlanOptions)
