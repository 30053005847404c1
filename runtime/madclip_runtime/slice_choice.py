"""Which slices of a volume a call means: --axis and --slices."""

from __future__ import annotations

from dataclasses import dataclass

from madclip_runtime.errors import InputRefused, UsageError

__all__ = ["SliceChoice"]


@dataclass(frozen=True)
class SliceChoice:
    """Which slices of a volume. axis: 0 sagittal, 1 coronal, 2 axial.

    first, last: half-open, counted from left, back or below; None for the end.
    """

    axis: int = 2
    first: int | None = None
    last: int | None = None

    @classmethod
    def parse(cls, axis: int, text: str | None) -> SliceChoice:
        """text: "A:B", "A:", ":B", "N" or None for all. Raises: UsageError."""
        if text is None:
            return cls(axis)
        parts = text.split(":")
        try:
            ends = [int(part) if part else None for part in parts]
        except ValueError:
            ends = []
        if len(ends) == 1 and ends[0] is not None:
            ends = [ends[0], ends[0] + 1]
        low, high = ends if len(ends) == 2 else (1, 0)
        if (low or 0) < 0 or (high is not None and high <= (low or 0)):
            raise UsageError(f"--slices {text}", "is no range of slices", "give A:B, from A up to but not B, or one N")
        return cls(axis, low, high)

    def of(self, count: int, name: str) -> range:
        """The chosen of `count` slices. Raises: InputRefused where none is left."""
        chosen = range(count)[self.first : self.last]
        if not chosen:
            raise InputRefused(name, f"has {count} slices along axis {self.axis}, none of them in --slices")
        return chosen
