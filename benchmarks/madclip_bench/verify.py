"""Every figure of a report computed again from its own samples, and compared leaf by leaf.

Three nets, one behind the other: the digest over the whole document, the hash of the samples, and `build`, which makes
the report anew. An edit that also mends the digest still has to agree with what the samples say.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from madclip_bench.building import build
from madclip_bench.integrity import code_sha256, digest_of
from madclip_bench.pages.csv import leaves
from madclip_bench.report import Report

__all__ = ["Checked", "check"]

_COMPUTED = ("verdict", "marks", "warnings", "figures")


@dataclass(frozen=True)
class Checked:
    """faults: sentences, each a reason not to believe the report; none: it is consistent. figures: how many values
    were computed again. notes: worth knowing, no fault.
    """

    digest: str
    figures: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def check(data: bytes, *, expected_digest: str | None = None) -> Checked:
    """data: a report file. expected_digest: what the run printed, if it was written down.

    Raises: SchemaError where it is no report of this format at all.
    """
    report = Report.from_json(data)
    document = json.loads(data)
    faults = [*_digest_faults(document, report.digest, expected_digest)]
    computed = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the mean of nothing is no figure
            anew = build(report.setting, report.samples()).document()
    except Exception as error:  # samples that were tampered with may break any arithmetic
        faults.append(f"its samples can't be read, so nothing could be computed again: {error}")
    else:
        computed = sum(1 for key in _COMPUTED for _ in leaves(anew[key], key))
        faults += _differences(document, anew)
    return Checked(report.digest, computed, tuple(faults), tuple(_notes(report)))


def _digest_faults(document: dict[str, Any], stated: str, expected: str | None) -> Iterator[str]:
    actual = digest_of(document)
    if actual != stated:
        yield f"digest: the file says {stated[:16]}…, its content gives {actual[:16]}…: something was changed"
    if expected is not None and expected.lower() != actual:
        yield f"digest: the run printed {expected[:16]}…, this file's content gives {actual[:16]}…"


def _differences(document: dict[str, Any], anew: dict[str, Any]) -> Iterator[str]:
    """Every value that the samples contradict, by its path; then what should not be there, or is missing."""
    for key in _COMPUTED:
        stated, found = dict(leaves(document[key], key)), dict(leaves(anew[key], key))
        for path in {**found, **stated}:
            if path not in stated:
                yield f"{path}: missing, the samples give {found[path]!r}"
            elif path not in found:
                yield f"{path}: says {stated[path]!r}, the samples give nothing there"
            elif stated[path] != found[path] or type(stated[path]) is not type(found[path]):
                yield f"{path}: says {stated[path]!r}, the samples give {found[path]!r}"


def _notes(report: Report) -> Iterator[str]:
    if report.setting.code_sha256 != code_sha256():
        yield (
            f"it was made by other code (madclip-bench {report.setting.bench_version}, "
            f"{report.setting.code_sha256[:16]}…) than checks it here"
        )
