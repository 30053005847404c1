"""Which slices of a labelled volume are taken: lesions that can be seen, and normal slices at the same heights.

Slice position alone tells a tumour slice from a normal one in most volumes: lesions sit in the middle, normal slices
are left at the ends. So normal slices are paired with abnormal ones of (nearly) the same relative position, from
whatever volume has one there, and what finds no partner is left out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from madclip.prepare.sample import Floats

__all__ = ["Slice", "abnormal_slices", "match_positions", "normal_slices", "relative_positions", "thin_out"]

Integers = npt.NDArray[np.int64]
LEAST_BODY = 0.01
"""Share of a slice that must be foreground, else it shows background only."""


@dataclass(frozen=True)
class Slice:
    """A slice that may be taken. volume: its number. index: along the axis. position: 0–1 within the body."""

    volume: int
    index: int
    position: float


def abnormal_slices(lesion: Integers, least: int) -> Integers:
    """Indices of slices with at least `least` lesion pixels. lesion: int64 [K], lesion pixels per slice."""
    return np.flatnonzero(lesion >= max(least, 1))


def normal_slices(lesion: Integers, body: Floats, gap: int) -> Integers:
    """Indices of slices at least `gap` from every slice with any lesion pixel, and not background only.

    lesion: int64 [K] pixels per slice. body: float [K], share of each slice that is foreground.
    """
    indices = np.arange(lesion.size)
    marked = np.flatnonzero(lesion)
    far = np.ones(lesion.size, dtype=np.bool_)
    for index in marked:
        far &= np.abs(indices - index) >= gap
    return np.flatnonzero(far & (lesion == 0) & (body >= LEAST_BODY))


def relative_positions(body: Floats) -> Floats:
    """float64 [K]: 0 at the first slice with body, 1 at the last; slices beyond are held at the ends."""
    filled = np.flatnonzero(body >= LEAST_BODY)
    first, last = (int(filled[0]), int(filled[-1])) if filled.size else (0, body.size - 1)
    return np.clip((np.arange(body.size) - first) / max(last - first, 1), 0.0, 1.0)


def thin_out(indices: Integers, cap: int | None) -> Integers:
    """At most `cap` of them, evenly spread and not the outermost, where a lesion only begins."""
    if cap is None or indices.size <= cap:
        return indices
    return indices[((np.arange(cap) + 0.5) * indices.size / cap).astype(np.intp)]


def match_positions(
    abnormal: Sequence[Slice], normal: Sequence[Slice], *, tolerance: float, cap: int | None, seed: int
) -> tuple[list[Slice], list[Slice]]:
    """As many normal as abnormal slices, paired at positions that differ by at most `tolerance`.

    What remains of each pair's difference is carried into the next choice, so that the differences cancel instead of
    adding up. cap: most normal slices taken from one volume. The order of choice is drawn by `seed`.
    """
    pool = sorted(normal, key=lambda item: (item.position, item.volume, item.index))
    positions = np.array([item.position for item in pool], dtype=np.float64)
    free = np.ones(len(pool), dtype=np.bool_)
    chosen: list[tuple[Slice, Slice]] = []
    carry = 0.0
    for item in _shuffled(abnormal, seed):
        place = _nearest_free(positions, free, item.position, carry, tolerance)
        if place is None:
            continue
        carry = float(np.clip(carry + positions[place] - item.position, -tolerance, tolerance))
        chosen.append((item, pool[place]))
        free[place] = False
        _close_full_volume(pool, free, chosen, cap)
    return sorted((a for a, _ in chosen), key=_order), sorted((n for _, n in chosen), key=_order)


def _nearest_free(
    positions: Floats, free: npt.NDArray[np.bool_], wanted: float, carry: float, tolerance: float
) -> int | None:
    """The free place within `tolerance` of `wanted` that is nearest to `wanted - carry`; None where there is none."""
    low = int(np.searchsorted(positions, wanted - tolerance, side="left"))
    high = int(np.searchsorted(positions, wanted + tolerance, side="right"))
    open_places = low + np.flatnonzero(free[low:high])
    if not open_places.size:
        return None
    return int(open_places[np.abs(positions[open_places] - (wanted - carry)).argmin()])


def _close_full_volume(
    pool: list[Slice], free: npt.NDArray[np.bool_], chosen: list[tuple[Slice, Slice]], cap: int | None
) -> None:
    if cap is None:
        return
    volume = chosen[-1][1].volume
    if sum(item.volume == volume for _, item in chosen) >= cap:
        free &= np.array([item.volume != volume for item in pool])


def _shuffled(items: Sequence[Slice], seed: int) -> list[Slice]:
    ordered = sorted(items, key=_order)
    random.Random(seed).shuffle(ordered)
    return ordered


def _order(item: Slice) -> tuple[int, int]:
    return item.volume, item.index
