"""`madclip-bench run`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from madclip_bench.bench import Job, run_bundle
from madclip_bench.commands.output import check_writable, print_lines, print_summary
from madclip_bench.pages.csv import figures_csv
from madclip_bench.pages.html import page
from madclip_bench.pages.markdown import markdown
from madclip_bench.pages.text import lines
from madclip_bench.report import Report
from madclip_bench.rules import EXTRA, SCENARIOS, Rules, ScannerRules
from madclip_runtime.bundle import find_bundle
from madclip_runtime.errors import EXIT_OK, InputRefused, UsageError
from madclip_runtime.files import write_whole

__all__ = ["run"]

_OUTPUTS = ("json", "html", "markdown", "csv")


def run(arguments: argparse.Namespace, talk: Callable[[str], None]) -> int:
    """Time a bundle, write what was asked for, print the verdict. Raises: MadclipError's children."""
    outputs = _outputs(arguments)
    rules = _rules(arguments)
    if "json" not in outputs:
        talk("without --json nobody can verify these figures later, or compare them")
    job = Job(
        bundle=find_bundle(arguments.bundle),
        rules=rules,
        engine=arguments.engine,
        head=arguments.head,
        images=None if arguments.images is None else Path(arguments.images),
        data=None if arguments.data is None else Path(arguments.data),
        folder=next(iter(outputs.values())).parent,
    )
    with _Progress() as progress:
        report = run_bundle(job, tick=progress)
    for kind, path in outputs.items():
        write_whole(path, _written(kind, report))
    print_lines(lines(report))
    print_summary(report.summary())
    refused = [f"{image.file}: {image.why}" for image in report.setting.images.refused]
    refused += [f"accuracy: {line}" for line in report.figures.accuracy.refused]
    for line in refused:
        talk(f"refused {line}")
    return InputRefused.exit_code if refused else EXIT_OK


def _outputs(arguments: argparse.Namespace) -> dict[str, Path]:
    named = {kind: getattr(arguments, kind) for kind in _OUTPUTS}
    found = {kind: check_writable(f"--{kind}", name) for kind, name in named.items() if name is not None}
    if not found:
        raise UsageError("madclip-bench run", "nothing would be kept", "give --json OUT.json, --html PAGE.html or both")
    return found


def _written(kind: str, report: Report) -> bytes:
    if kind == "json":
        return report.to_json()
    render = {"html": page, "markdown": markdown, "csv": figures_csv}[kind]
    return render(report).encode()


def _rules(arguments: argparse.Namespace) -> Rules:
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}", "a seed is not negative", "give 0 or more")
    if not 0 < arguments.bound_ms < 1e7:
        raise UsageError(f"--bound-ms {arguments.bound_ms}", "must be above 0", "give milliseconds, e.g. 1000")
    make = Rules.fast if arguments.quick else Rules.full
    scanner = _scanner(arguments.scanner, arguments.deadline_s)
    return make(arguments.seed, scenarios=_scenarios(arguments.scenarios), bound_ms=arguments.bound_ms, scanner=scanner)


def _scenarios(text: str | None) -> tuple[str, ...]:
    if text is None:
        return SCENARIOS
    asked = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in asked if word not in SCENARIOS]
    if unknown:
        raise UsageError(f"--scenarios {text}", f"there is no {unknown[0]}", f"choose from {', '.join(SCENARIOS)}")
    return ("single", *(name for name in EXTRA if name in asked))


def _scanner(pattern: str | None, deadline_s: float | None) -> ScannerRules:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6}(?:\.\d+)?)", pattern or "400/240")
    slices, period_s = (int(found.group(1)), float(found.group(2))) if found else (0, 0.0)
    if slices < 1 or period_s <= 0:
        raise UsageError(f"--scanner {pattern}", "is no exam pattern", "give SLICES/SECONDS, e.g. 400/240")
    deadline = period_s if deadline_s is None else deadline_s
    if not 0 < deadline < 1e6:
        raise UsageError(f"--deadline-s {deadline_s}", "must be above 0", "give seconds, e.g. 240")
    return ScannerRules(slices=slices, period_s=period_s, deadline_s=deadline)


class _Progress:
    """One line on a terminal's stderr, at most once a second; nothing elsewhere."""

    def __init__(self) -> None:
        self._shown: tuple[str, int] | None = None
        self._on = sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        return self

    def __call__(self, scenario: str, queries: int, elapsed_s: float) -> None:
        now = (scenario, int(elapsed_s) if elapsed_s else queries // 16)
        if self._on and now != self._shown:
            self._shown = now
            sys.stderr.write(f"\r\033[Kmadclip-bench: {scenario}: {queries} queries, {elapsed_s:.0f} s ")
            sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            sys.stderr.write("\n")
