"""`madclip-bench verify`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from madclip_bench.commands.output import print_lines, print_summary
from madclip_bench.pages.html import page
from madclip_bench.report import Report
from madclip_bench.verify import check
from madclip_runtime.bundle import Bundle
from madclip_runtime.errors import EXIT_OK, InputRefused
from madclip_runtime.schema import SchemaError

__all__ = ["read_report", "verify"]

_LONGEST_SHOWN = 40


def verify(arguments: argparse.Namespace, talk: Callable[[str], None]) -> int:
    """Say whether a report holds. Raises: InputRefused where it is no report, BundleRefused."""
    from madclip_bench.commands import EXIT_NO

    data = _read(arguments.report)
    try:
        found = check(data, expected_digest=arguments.digest)
    except SchemaError as error:
        raise InputRefused(
            arguments.report, str(error), "name the JSON that `madclip-bench run --json` wrote"
        ) from None
    faults = [*found.faults, *_page_faults(arguments.page, data), *_bundle_faults(arguments.bundle, data)]
    for note in found.notes:
        talk(note)
    print_lines(faults[:_LONGEST_SHOWN])
    if len(faults) > _LONGEST_SHOWN:
        print_lines([f"… and {len(faults) - _LONGEST_SHOWN} more"])
    words = f"{found.figures} values computed again from the samples"
    print_lines([f"NOT as it was made: {len(faults)} faults; {words}" if faults else f"as it was made; {words}"])
    print_summary({"holds": not faults, "digest": found.digest, "values": found.figures, "faults": faults})
    return EXIT_NO if faults else EXIT_OK


def read_report(name: str) -> Report:
    """A report from a file. Raises: InputRefused."""
    try:
        return Report.from_json(_read(name))
    except SchemaError as error:
        raise InputRefused(name, str(error), "name the JSON that `madclip-bench run --json` wrote") from None


def _read(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputRefused(name, error.strerror or str(error), "name a report's JSON") from None


def _page_faults(name: str | None, data: bytes) -> list[str]:
    """A page is a function of its report: made again here, it must be the same text."""
    if name is None:
        return []
    try:
        shown, made = _read(name).decode(errors="replace").splitlines(), page(Report.from_json(data)).splitlines()
    except (SchemaError, ValueError) as error:
        return [f"page: can't be made again from this report ({error})"]
    if shown == made:
        return []
    line = next((i for i, (a, b) in enumerate(zip(shown, made, strict=False)) if a != b), min(len(shown), len(made)))
    return [f"page: {Path(name).name} is not this report's page; line {line + 1} differs"]


def _bundle_faults(name: str | None, data: bytes) -> list[str]:
    if name is None:
        return []
    stated, found = Report.from_json(data).setting.bundle.digest, Bundle.load(name).digest
    return [] if stated == found else [f"bundle: {Path(name).name} has digest {found[:16]}…, not {stated[:16]}…"]
