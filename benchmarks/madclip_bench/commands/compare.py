"""`madclip-bench compare`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from madclip_bench.commands.output import check_writable, print_lines, print_summary
from madclip_bench.commands.verify import read_report
from madclip_bench.compare.comparison import ACROSS, Comparison, compare_reports
from madclip_bench.compare.gate import parse_rule
from madclip_bench.compare.prices import read_prices
from madclip_bench.pages.comparison import (
    comparison_csv,
    comparison_markdown,
    comparison_page,
    comparison_text,
)
from madclip_runtime.errors import EXIT_OK, InputRefused, UsageError
from madclip_runtime.files import write_whole
from madclip_runtime.schema import SchemaError, encode

__all__ = ["compare"]

_OUTPUTS = ("json", "html", "markdown", "csv")


def compare(arguments: argparse.Namespace, talk: Callable[[str], None]) -> int:
    """Set reports side by side. Raises: UsageError, InputRefused, OutputNotWritten."""
    from madclip_bench.commands import EXIT_NO

    outputs = {
        kind: check_writable(f"--{kind}", name) for kind in _OUTPUTS if (name := getattr(arguments, kind)) is not None
    }
    found = _compare(arguments)
    for kind, path in outputs.items():
        write_whole(path, _written(kind, found))
    print_lines(comparison_text(found))
    print_summary(encode(found))
    for gate in found.gates:
        if gate.failed:
            talk(f"--fail-if {gate.rule} holds for {gate.report}: {gate.why}")
    return EXIT_NO if found.failed else EXIT_OK


def _compare(arguments: argparse.Namespace) -> Comparison:
    names = _names(arguments)
    across = [word.strip() for word in arguments.across.split(",") if word.strip()]
    unknown = [word for word in across if word not in ACROSS]
    if unknown:
        raise UsageError(
            f"--across {unknown[0]}", "is nothing that reports differ in", f"choose from {', '.join(ACROSS)}"
        )
    rules = [parse_rule(text) for text in arguments.fail_if]
    prices = None if arguments.prices is None else read_prices(arguments.prices)
    reports = [read_report(name) for name in arguments.reports]
    try:
        return compare_reports(reports, names, across=across, prices=prices, rules=rules)
    except SchemaError as error:
        raise InputRefused("a report", str(error), "madclip-bench verify says which") from None


def _names(arguments: argparse.Namespace) -> list[str]:
    if len(arguments.reports) < 2:
        raise UsageError("compare", "one report alone can't be compared", "name two or more")
    if arguments.names is None:
        names = [Path(name).stem for name in arguments.reports]
    else:
        names = [name.strip() for name in arguments.names.split(",")]
    if len(names) != len(arguments.reports) or len(set(names)) != len(names) or not all(names):
        raise UsageError("compare", f"{len(arguments.reports)} reports need as many different names", "use --names a,b")
    return names


def _written(kind: str, found: Comparison) -> bytes:
    if kind == "json":
        return (json.dumps(encode(found), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    render = {"html": comparison_page, "markdown": comparison_markdown, "csv": comparison_csv}[kind]
    return render(found).encode()
