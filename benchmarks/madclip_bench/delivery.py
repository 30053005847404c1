"""From a Result to what a person opens: the overlay drawn, it and the JSON line written and flushed to disk.

Timed apart from the latency, which ends with the Result: not every box draws pictures, and a disk is not the model.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from madclip_runtime.detector import Detector
from madclip_runtime.files import write_whole
from madclip_runtime.overlay import overlay_png

__all__ = ["Delivery", "DeliveryFigures", "deliver"]


@dataclass(frozen=True)
class Delivery:
    """Of each delivered result: ms to draw its overlay, ms to write it and its JSON line, bytes written."""

    postprocess_ms: tuple[float, ...]
    write_ms: tuple[float, ...]
    bytes: tuple[int, ...]


@dataclass(frozen=True)
class DeliveryFigures:
    """Medians over the delivered results. bytes: of an overlay and its JSON line."""

    results: int
    postprocess_ms: float
    write_ms: float
    bytes: int

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryFigures:
        """From the samples, of which there is at least one."""
        postprocess, write = (round(float(np.median(v)), 4) for v in (delivery.postprocess_ms, delivery.write_ms))
        return cls(len(delivery.bytes), postprocess, write, int(np.median(delivery.bytes)))


def deliver(detector: Detector, images: Sequence[bytes], folder: Path) -> Delivery:
    """images: encoded. folder: on the disk that is meant; what is written there is removed again.

    Raises: EngineRefused, InputRefused, OutputNotWritten.
    """
    postprocess, write, sizes = [], [], []
    with tempfile.TemporaryDirectory(prefix=".madclip-bench-", dir=folder) as place:
        for number, data in enumerate(images):
            result = detector(data)
            start = time.perf_counter()
            picture = overlay_png(result)
            line = json.dumps(result.to_json(), allow_nan=False).encode()
            drawn = time.perf_counter()
            write_whole(Path(place) / f"{number}.png", picture)
            write_whole(Path(place) / f"{number}.json", line)
            written = time.perf_counter()
            postprocess.append(round((drawn - start) * 1e3, 4))
            write.append(round((written - drawn) * 1e3, 4))
            sizes.append(len(picture) + len(line))
    return Delivery(tuple(postprocess), tuple(write), tuple(sizes))
