"""The files one result leaves: overlay, map, mask; each written whole or not at all."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from madclip_runtime.files import make_folder, write_whole
from madclip_runtime.imaging import as_stored
from madclip_runtime.png import png_bytes
from madclip_runtime.result import Result

__all__ = ["OutputChoice", "map_bytes", "mask_bytes"]


@dataclass(frozen=True)
class OutputChoice:
    """Which files are wanted. map: "png" (16-bit, 0–65535 for 0–1), "npy" (float32) or None.

    stored: maps and masks lie as the file stores its rows and columns, not upright.
    """

    overlay: bool = True
    map: str | None = None
    mask: bool = False
    stored: bool = False

    def write(self, result: Result, stem: Path, suffix: str = "") -> dict[str, str | None]:
        """Write them beside each other: `<stem><suffix>.overlay.png`, ….

        suffix: tells the heads apart. Returns the keys of the JSON line, null for what was not written.
        Raises: OutputNotWritten.
        """
        from madclip_runtime.overlay import overlay_png

        path = stem.with_name(stem.name + suffix)
        files: dict[str, tuple[str, bytes]] = {}
        if self.overlay:
            files["overlay"] = ".overlay.png", overlay_png(result)
        if self.map is not None:
            files["map_file"] = f".map.{self.map}", map_bytes(result, self.map, stored=self.stored)
        if self.mask and result.mask is not None:
            files["mask_file"] = ".mask.png", mask_bytes(result, stored=self.stored)
        if files:
            make_folder(path.parent)
        told: dict[str, str | None] = {"overlay": None, "map_file": None, "mask_file": None}
        for key, (ending, data) in files.items():
            place = path.with_name(path.name + ending)
            write_whole(place, data)
            told[key] = str(place)
        return told


def map_bytes(result: Result, kind: str, *, stored: bool = False) -> bytes:
    """The map at the image's size as a 16-bit grey PNG (65535 is 1) or, kind "npy", float32 [H, W]."""
    heat = as_stored(result.map, result.orientation) if stored else result.map
    if kind == "npy":
        buffer = io.BytesIO()
        np.save(buffer, heat, allow_pickle=False)
        return buffer.getvalue()
    return png_bytes(np.rint(np.clip(heat, 0, 1) * 65535).astype(np.uint16))


def mask_bytes(result: Result, *, stored: bool = False) -> bytes:
    """The mask as an 8-bit grey PNG, 255 inside; only for a result that has one."""
    if result.mask is None:
        raise ValueError("this result has no mask")
    mask = result.mask.astype(np.uint8) * 255
    return png_bytes(as_stored(mask, result.orientation) if stored else mask)
