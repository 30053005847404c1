"""All results as one self-contained HTML page: thumbnails by score, a filter by decision, the overlay on a click.

It loads nothing from anywhere, and its own policy forbids it to. Cards wait in a temporary file, so memory stays flat.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import tempfile
from collections import Counter
from pathlib import Path
from typing import IO

from PIL import Image

from madclip_runtime.errors import OutputNotWritten
from madclip_runtime.files import make_folder, whole_file
from madclip_runtime.gallery_page import FOOT, HEAD, SCRIPT
from madclip_runtime.overlay import draw_overlay
from madclip_runtime.result import Result

__all__ = ["Gallery"]

_THUMBNAIL, _OVERLAY = (176, 176), (1100, 900)
_ORDER = ("abnormal", "borderline", "normal", "uncalibrated", "refused")


class Gallery:
    """Add results in any order; `write` sorts them by score, highest first, refusals last."""

    def __init__(self, path: Path) -> None:
        """Raises: OutputNotWritten where no temporary file can be made."""
        self._path = path
        self._cards: list[tuple[float, int, int]] = []
        self._counts: Counter[str] = Counter()
        self._titles: list[str] = []
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(prefix="madclip-gallery-")  # noqa: SIM115 (closed in write)
        except OSError as error:
            raise OutputNotWritten(str(path), error.strerror or str(error), "make room for temporary files") from None

    def add(self, result: Result) -> None:
        """One card."""
        name, head = html.escape(result.file), html.escape(result.head)
        at = "" if result.threshold is None else f", threshold {result.threshold:.3f}"
        label = f"{result.score:.3f} {result.decision}"
        if not self._titles:
            self._titles = [*result.notices, f"{result.bundle}, {result.engine} {result.precision}"]
        self._put(
            result.score,
            result.decision,
            f'<button class="card" data-decision="{result.decision}" aria-label="{name}, {head}, {label}">'
            f'<img class="thumb" alt="" src="{_picture(Image.fromarray(result.image), _THUMBNAIL)}">'
            f'<span class="bar"><i style="width:{100 * min(max(result.score, 0), 1):.1f}%"></i></span>'
            f'<b>{label}</b><span class="name" title="{name}">{_last(result.file)}</span>'
            f'<span class="head">{head}</span>'
            f'<template><img alt="{name}: the image and its heat map" '
            f'src="{_picture(Image.fromarray(draw_overlay(result)), _OVERLAY)}">'
            f"<p>{name} · {head} · score {result.score:.4f} {result.decision}{at}</p></template></button>\n",
        )

    def add_refusal(self, name: str, line: str) -> None:
        """A file that was refused has a card too. line: what, why, what to do."""
        self._put(
            -1.0,
            "refused",
            f'<button class="card" data-decision="refused" aria-label="{html.escape(name)}, refused">'
            f'<span class="thumb none">refused</span><b>refused</b><span class="name">{_last(name)}</span>'
            f"<template><p>{html.escape(line)}</p></template></button>\n",
        )

    def write(self) -> None:
        """The page, whole or not at all. Raises: OutputNotWritten."""
        make_folder(self._path.parent)
        with whole_file(self._path) as page, self._file as cards:
            page.write(self._head().encode("utf-8", "replace"))
            for _, start, length in sorted(self._cards, key=lambda card: (-card[0], card[1])):
                cards.seek(start)
                page.write(cards.read(length))
            page.write(FOOT.replace("SCRIPT", SCRIPT).encode())

    def _put(self, score: float, decision: str, card: str) -> None:
        data = card.encode("utf-8", "replace")
        try:
            self._file.seek(0, io.SEEK_END)
            self._cards.append((score, self._file.tell(), len(data)))
            self._file.write(data)
        except OSError as error:
            raise OutputNotWritten(str(self._path), error.strerror or str(error), "make room") from None
        self._counts[decision] += 1

    def _head(self) -> str:
        digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
        buttons = "".join(
            f'<button class="filter" data-show="{kind}" aria-pressed="false">{kind} {self._counts[kind]}</button>'
            for kind in _ORDER
            if self._counts[kind]
        )
        total = sum(self._counts.values())
        filters = f'<button class="filter" data-show="" aria-pressed="true">all {total}</button>{buttons}'
        notices = " · ".join(html.escape(text) for text in self._titles or ["research use, not a medical device"])
        return HEAD.replace("DIGEST", digest).replace("FILTERS", filters).replace("NOTICES", notices)


def _last(name: str) -> str:
    """The last part of a path: the start of a long one says little on a narrow card."""
    return html.escape(name.rpartition("/")[2] or name)


def _picture(image: Image.Image, most: tuple[int, int]) -> str:
    """A data URL, shrunk to fit into `most` pixels."""
    image.thumbnail(most, Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
