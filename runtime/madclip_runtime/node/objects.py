"""All that is written of one series: pictures every PACS shows (SC), the segmentation (SEG), the report (SR).

highdicom writes them. Every UID follows from the job's key, so writing again gives the same objects again.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from madclip_runtime.errors import InputRefused, MadclipError, UsageError
from madclip_runtime.node.findings import Findings
from madclip_runtime.node.identity import uid_of
from madclip_runtime.node.maker import Maker
from madclip_runtime.node.rules import Rule
from madclip_runtime.node.sources import read_sources

__all__ = ["Written", "make_objects", "require_highdicom", "uids_of"]

_NOT_MADE = "can't be made of this source"


@dataclass
class Written:
    """files: each object's bytes, the report last, so that where it is all others are. left_out: kind → why."""

    files: list[bytes] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def make_objects(key: str, rule: Rule, findings: Findings) -> Written:
    """What the rule asks for, as far as the source has what it needs.

    Raises: InputRefused where a source can't be referred to, or nothing at all can be made of it.
    """
    from madclip_runtime.node.captures import captures
    from madclip_runtime.node.report import report
    from madclip_runtime.node.segments import segmentation, segmentation_fault

    sources = read_sources([image.source for image in findings.images])
    maker = Maker(key, rule, findings, sources)
    written = Written()
    if "sc" in rule.objects:
        _add(written, "sc", lambda: captures(maker))
    if "seg" in rule.objects:
        why = segmentation_fault(maker)
        if why:
            written.left_out["seg"] = why
        else:
            _add(written, "seg", lambda: [segmentation(maker)])
    if "sr" in rule.objects:
        _add(written, "sr", lambda: [report(maker)])
    why = "; ".join(f"{kind} {reason}" for kind, reason in written.left_out.items())
    if not written.files and _NOT_MADE in why:
        raise InputRefused("the series", f"nothing could be written of it: {why}")
    return written


def uids_of(key: str, rule: Rule) -> dict[str, list[str]]:
    """Kind → the UIDs that its objects have, as far as there are such; in the order in which they are stored."""
    numbers = {"sc": range(1, rule.overlays + 1), "seg": (1,), "sr": (1,)}
    return {kind: [uid_of(key, kind, number) for number in numbers[kind]] for kind in numbers if kind in rule.objects}


def require_highdicom() -> str:
    """Its version. Raises: UsageError with the pip line."""
    try:
        import highdicom
    except ImportError:
        raise UsageError("madclip-node", "highdicom is not installed", 'pip install "madclip-runtime[node]"') from None
    return str(highdicom.__version__)


def _add(written: Written, kind: str, make: Callable[[], list[Any]]) -> None:
    """One kind, or why not: a source's header may hold anything, and highdicom checks what it copies."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd values in the source's header, which we only copy
            files = [_bytes(data) for data in make()]
    except MadclipError:
        raise
    except Exception as error:  # its text may quote the header, and this goes into the audit line: so its kind only
        written.left_out[kind] = f"{_NOT_MADE} ({type(error).__name__})"
        return
    written.files += files
    written.counts[kind] = len(files)


def _bytes(data: Any) -> bytes:
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
