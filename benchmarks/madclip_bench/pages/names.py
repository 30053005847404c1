"""What stages are called for people. A stage without a name here is shown as whoever measured it named it."""

from __future__ import annotations

__all__ = ["stage_name"]

_STAGES = {
    "decode": "decode the image file",
    "preprocess": "scale it for the model",
    "copy_in": "copy to the device",
    "compute": "compute the answer",
    "copy_out": "copy from the device",
    "postprocess": "work on the answer",
    "overlay": "draw the overlay",
    "write": "write picture and result to disk",
    "other": "the rest",
}


def stage_name(stage: str) -> str:
    """For a table or a chart."""
    return _STAGES.get(stage, stage.replace("_", " "))
