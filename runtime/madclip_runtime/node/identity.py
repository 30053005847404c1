"""Names that follow from what was done, so that doing it again, or sending it again, makes nothing new.

A key stands for one series' images, one head of one bundle, and how it was asked; every UID of a result comes from it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable

__all__ = ["key_of", "uid_of"]

_NAMESPACE = uuid.UUID("5f1d4c0e-6d0b-5c39-9a55-2f3a1b0c7d11")
"""Ours, drawn once; it must never change, or what was stored would be stored again under other UIDs."""
_WRITING = 1
"""Of the objects. Raise it when what is written changes in meaning, so that a changed result gets UIDs of its own."""


def key_of(instances: Iterable[str], *asked: str | float | None) -> str:
    """32 hex digits. instances: of the images, in any order. asked: bundle digest, head, threshold, and the like."""
    text = json.dumps([_WRITING, sorted(instances), asked])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def uid_of(key: str, role: str, number: int = 0) -> str:
    """A DICOM UID below 2.25, which is for UUIDs: 64 characters at most, no registration needed (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{key}/{role}/{number}').int}"
