"""DICOM files that belong together: put in the order of their places, and windowed alike.

What this module does not know: patients and labels. Preparing data and running a bundle share it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from madclip_runtime.dicom import Header, Values, read_values
from madclip_runtime.errors import InputRefused
from madclip_runtime.once import once
from madclip_runtime.window import Window, foreground, limits_of, to_grey

__all__ = ["Series", "group_series", "shade"]

_SAMPLED = 4
"""Every fourth row and column is enough for a series' percentiles."""


@dataclass(frozen=True)
class Series:
    """Files of one series. files: along the normal where all have a place on one normal, else as found.

    placed: whether the order is that of their places.
    """

    files: tuple[Header, ...]
    placed: bool

    @classmethod
    def of(cls, files: Sequence[Header]) -> Series:
        """Sorted by place, which InstanceNumber does not tell."""
        placed = all(item.place is not None for item in files) and len({item.axis for item in files}) == 1
        ordered = sorted(files, key=lambda item: (item.place or 0.0, item.name)) if placed else files
        return cls(tuple(ordered), placed)

    @property
    def percentiles(self) -> tuple[float, float]:
        """Black and white by the "percentile" window, taken once over all files, so that its slices match.

        Raises: InputRefused where there is nothing but padding, no contrast, or a file that can't be read.
        """
        return self._percentiles()

    @cached_property
    def _percentiles(self) -> Callable[[], tuple[float, float]]:
        return once(self._find_percentiles)

    def _find_percentiles(self) -> tuple[float, float]:
        name = self.files[0].name
        parts = []
        for item in self.files:
            values = read_values(item)
            parts.append(values.values[::_SAMPLED, ::_SAMPLED][~values.padded[::_SAMPLED, ::_SAMPLED]])
        together = np.concatenate(parts)
        if not together.size:
            raise InputRefused(name, "its series holds nothing but padding")
        return limits_of(Window("percentile"), together, foreground(together), name)


def group_series(headers: Iterable[Header], of: Callable[[Header], Hashable] = lambda _: None) -> list[Series]:
    """Files by series, or by folder where they name none, in order of first appearance.

    of: a further key that files of one series share (a patient, say).
    """
    groups: dict[Hashable, list[Header]] = {}
    for header in headers:
        groups.setdefault((of(header), header.series or str(header.path.parent)), []).append(header)
    return [Series.of(files) for files in groups.values()]


def shade(values: Values, low: float, high: float) -> npt.NDArray[np.uint8]:
    """uint8 [H, W]: windowed, MONOCHROME1 turned over, padding black. low, high: in the values' unit."""
    image = to_grey(values.values, low, high)
    image = np.uint8(255) - image if values.inverted else image
    image[values.padded] = 0
    return image
