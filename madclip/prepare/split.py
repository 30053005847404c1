"""Patients into valid and test: nobody in both, both classes in both where that can be."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SPLITS", "Patient", "assign_splits"]

SPLITS = ("valid", "test")
_MISSING = 10.0


@dataclass(frozen=True)
class Patient:
    """How many images of each class a patient brings. split: where the user fixed it, else None."""

    key: str
    normal: int
    abnormal: int
    split: str | None = None


def assign_splits(patients: Sequence[Patient], test_share: float, seed: int) -> dict[str, str]:
    """A split for every patient: about `test_share` of each class's images in test.

    Starts from an order drawn by `seed`, then moves single patients while that brings a missing class or a share
    nearer to the one asked for, and exchanges two while a class is still missing: where a class comes to a split only
    with a patient who is the other split's last of the other class, no single move helps. So both splits end with
    both classes wherever any assignment has that.
    """
    counts = np.array([(p.normal, p.abnormal) for p in patients], dtype=np.int64).reshape(-1, 2)
    free = np.array([p.split is None for p in patients], dtype=np.bool_)
    in_test = np.array([p.split == "test" for p in patients], dtype=np.bool_)
    _start(in_test, free, counts, test_share, seed)
    while moves := _best_move(in_test, free, counts, test_share) or _best_swap(in_test, free, counts, test_share):
        for move in moves:
            in_test[move] = not in_test[move]
    return {p.key: SPLITS[int(test)] for p, test in zip(patients, in_test, strict=True)}


def _start(
    in_test: npt.NDArray[np.bool_], free: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64], share: float, seed: int
) -> None:
    order = [int(index) for index in np.flatnonzero(free)]
    random.Random(seed).shuffle(order)
    wanted = share * counts.sum()
    for index in order:
        if counts[in_test].sum() + counts[index].sum() / 2 > wanted:
            break
        in_test[index] = True


def _best_move(
    in_test: npt.NDArray[np.bool_], free: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64], share: float
) -> tuple[int, ...]:
    """The patient whose move lowers the cost most; none where no single move does."""
    if not free.any():
        return ()
    total, test = counts.sum(axis=0), counts[in_test].sum(axis=0)
    moved = test + np.where(in_test[:, None], -counts, counts)
    costs = np.where(free, _cost(moved, total, share), np.inf)
    best = int(costs.argmin())
    return (best,) if costs[best] < _cost(test[None], total, share)[0] - 1e-9 else ()


def _best_swap(
    in_test: npt.NDArray[np.bool_], free: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64], share: float
) -> tuple[int, ...]:
    """While a class is missing: the two patients, one of each split, whose exchange lowers the cost most."""
    total, test = counts.sum(axis=0), counts[in_test].sum(axis=0)
    now = _cost(test[None], total, share)[0]
    leave, come = np.flatnonzero(free & in_test), np.flatnonzero(free & ~in_test)
    if now < _MISSING or not (len(leave) and len(come)):
        return ()
    moved = test - counts[leave][:, None] + counts[come][None]
    costs = _cost(moved.reshape(-1, 2), total, share)
    best = int(costs.argmin())
    pair = (int(leave[best // len(come)]), int(come[best % len(come)]))
    return pair if costs[best] < now - 1e-9 else ()


def _cost(test: npt.NDArray[np.int64], total: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.float64]:
    """test: int64 [N, 2], images of each class in test.

    A missing class weighs more than any error of the shares, and most in valid, where shots and thresholds come from.
    """
    missing = (test == 0).sum(axis=1) + 1.5 * (test == total).sum(axis=1)
    wrong = np.abs(test / np.maximum(total, 1) - share).sum(axis=1)
    return np.asarray(_MISSING * missing + wrong, dtype=np.float64)
