"""The segmentation: where the map reached the threshold, one segment, only the images that have any of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from madclip_runtime import __version__
from madclip_runtime.node.codes import PROPERTY_CATEGORY, PROPERTY_TYPE, code
from madclip_runtime.node.identity import uid_of
from madclip_runtime.node.maker import NOTICE, Maker
from madclip_runtime.node.sources import geometry_fault

__all__ = ["segmentation", "segmentation_fault"]

_MOST_PIXELS = 300 * 10**6
"""A byte each, and highdicom copies them."""


def segmentation_fault(maker: Maker) -> str:
    """Why there is none; "" where there is one. A sentence of ours, without anything of the source."""
    if not maker.findings.has_masks:
        return "the threshold says nothing of single pixels"
    marked = [image for image in maker.findings.images if image.packed is not None]
    if not marked:
        return "no pixel reached the threshold"
    if sum(image.height * image.width for image in marked) > _MOST_PIXELS:
        return "it would be larger than this memory should hold"
    return geometry_fault(maker.sources)


def segmentation(maker: Maker) -> Any:
    """A binary one, only for what `segmentation_fault` finds nothing against."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription

    places = [place for place, image in enumerate(maker.findings.images) if image.packed is not None]
    algorithm = AlgorithmIdentificationSequence(
        name="MadCLIP", family=code("artificial-intelligence"), version=__version__, source="madclip"
    )
    segment = SegmentDescription(
        segment_number=1,
        segment_label="at or above the threshold",
        segmented_property_category=code(PROPERTY_CATEGORY),
        segmented_property_type=code(PROPERTY_TYPE),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=uid_of(maker.key, "segment"),
        tracking_id=f"madclip {maker.key[:8]}",
    )
    made = Segmentation(
        source_images=[maker.sources[place] for place in places],
        pixel_array=np.stack([maker.findings.images[place].mask for place in places]),
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        content_description=f"threshold {maker.findings.detector.threshold:.4f}; {NOTICE}"[:64],
        content_label="MADCLIP",
        series_description="madclip segmentation, research use only",
        **maker.equipment,
        **maker.common("seg"),
    )
    return made
