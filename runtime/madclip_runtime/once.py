"""Work that is done once, whatever comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from madclip_runtime.errors import InputRefused

__all__ = ["once"]

T = TypeVar("T")


def once(work: Callable[[], T]) -> Callable[[], T]:
    """`work` as a function that is called at most once; its value, or its refusal, is given again and again.

    functools.cache forgets refusals, and a damaged volume of a thousand slices would be read a thousand times.
    """
    kept: list[T] = []
    refused: list[InputRefused] = []

    def again() -> T:
        if refused:
            raise refused[0]
        if not kept:
            try:
                kept.append(work())
            except InputRefused as error:
                refused.append(error)
                raise
        return kept[0]

    return again
