"""What `madclip-run` does with images: find them, take them through the detector, write and tell."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from madclip_runtime.errors import EXIT_OK, InputRefused, UsageError, one_line

if TYPE_CHECKING:
    from madclip_runtime.detector import Detector
    from madclip_runtime.gallery import Gallery
    from madclip_runtime.inputs import Finder, Job
    from madclip_runtime.outputs import OutputChoice
    from madclip_runtime.pipeline import Done
    from madclip_runtime.result import Result
    from madclip_runtime.table import Table
    from madclip_runtime.watch import Watch

__all__ = ["load_detector", "run_images"]

Say = Callable[[str], None]


def run_images(arguments: argparse.Namespace, emit: Say, talk: Say) -> int:
    """Everything but --doctor and --selftest; returns the exit code.

    emit: takes a line of data. talk: takes a line for a person.
    """
    from madclip_runtime.files import make_folder
    from madclip_runtime.inputs import Finder, SliceChoice
    from madclip_runtime.pipeline import run_pipeline

    _check(arguments)
    out = Path(arguments.out)
    finder = Finder(out, SliceChoice.parse(arguments.axis, arguments.slices))
    detector = load_detector(arguments, talk)
    make_folder(out)
    with ExitStack() as stack:
        watch = _watch(arguments, out, finder, stack)
        teller = _Teller(arguments, detector, emit, talk, watch)
        _say_what_runs(detector, talk)
        run_pipeline(_jobs(arguments, finder, watch), detector, teller, batch=arguments.batch or 1)
        teller.finish()
    if finder.skipped:
        talk(f"{finder.skipped} file(s) in the folder(s) have no image ending and were left out")
    return teller.code


def load_detector(arguments: argparse.Namespace, talk: Say) -> Detector:
    """As the options say. Raises: BundleRefused, EngineRefused, UsageError."""
    from madclip_runtime.bundle import Bundle, find_bundle
    from madclip_runtime.demonstration import demonstration_bundle
    from madclip_runtime.window import parse_window

    # its hashes are checked while the rest is imported
    bundle = demonstration_bundle() if arguments.demo else Bundle.open(find_bundle(arguments.bundle))
    import madclip_runtime.outputs
    import madclip_runtime.overlay  # noqa: F401
    from madclip_runtime.cache import open_cache
    from madclip_runtime.detector import Detector

    return Detector.load(
        bundle,
        engine=arguments.engine,
        head=arguments.head,
        threshold=arguments.threshold,
        operating_point=arguments.operating_point,
        window=None if arguments.window is None else parse_window(arguments.window),
        cache=None if arguments.no_cache else open_cache(arguments.cache_dir, arguments.cache_limit, talk),
        tell=talk,
    )


def _check(arguments: argparse.Namespace) -> None:
    if arguments.list == "-" and "-" in arguments.images:
        raise UsageError("-", "stdin can't be the list and an image at once", "put the list into a file")
    if arguments.watch is not None and (arguments.csv or arguments.gallery):
        why = "tables and galleries are written at the end, and watching has none"
        raise UsageError("--watch with --csv or --gallery", why, "read results.jsonl in --out")
    if arguments.batch is not None and arguments.batch < 1:
        raise UsageError(f"--batch {arguments.batch}", "must be at least 1")


def _watch(arguments: argparse.Namespace, out: Path, finder: Finder, stack: ExitStack) -> Watch | None:
    if arguments.watch is None:
        return None
    from madclip_runtime.watch import Watch

    return stack.enter_context(Watch(Path(arguments.watch), out, finder))


def _jobs(arguments: argparse.Namespace, finder: Finder, watch: Watch | None) -> Iterator[Job]:
    from madclip_runtime.inputs import listed

    yield from finder.jobs(arguments.images)
    if arguments.list == "-":
        yield from finder.jobs(listed(sys.stdin.buffer))
    elif arguments.list is not None:
        try:
            with Path(arguments.list).open("rb") as file:
                yield from finder.jobs(listed(file))
        except OSError as error:
            raise UsageError(f"--list {arguments.list}", error.strerror or str(error), "name a file of paths") from None
    if watch is not None:
        yield from watch.jobs()


def _say_what_runs(detector: Detector, talk: Say) -> None:
    info, manifest = detector.engine.info, detector.bundle.manifest
    for line in manifest.notices:
        talk(line)
    talk(f"bundle {manifest.model_id}, {info.precision}, on {info.name} ({info.library})")
    if manifest.degraded:
        talk(f"degraded: {manifest.degraded}")
    if len(manifest.heads) > 1:
        talk(f"head {', '.join(detector.heads)}")
    for head in detector.heads:
        if detector.points[head].threshold is None:
            talk(f"uncalibrated, scores only: {manifest.heads[head].calibration.reason}")


class _Teller:
    """The last stage: files, lines, table, gallery, journal. code: what to leave with."""

    def __init__(
        self, arguments: argparse.Namespace, detector: Detector, emit: Say, talk: Say, watch: Watch | None
    ) -> None:
        from madclip_runtime.outputs import OutputChoice

        self.code = EXIT_OK
        self._emit, self._talk, self._as_json = emit, talk, arguments.json
        self._several = len(detector.heads) > 1
        self._choice: OutputChoice = OutputChoice(
            not arguments.no_overlay, arguments.map, arguments.mask, arguments.as_stored
        )
        self._watch = watch
        self._count = Counter(sys.stderr) if not sys.stdout.isatty() and sys.stderr.isatty() else None
        self._table: Table | None = None
        self._gallery: Gallery | None = None
        if arguments.csv is not None:
            from madclip_runtime.table import Table

            self._table = Table(Path(arguments.csv))
        if arguments.gallery is not None:
            from madclip_runtime.gallery import Gallery

            self._gallery = Gallery(Path(arguments.gallery))

    def __call__(self, done: Done) -> None:
        """One job's end. Raises: OutputNotWritten."""
        if self._count is not None:
            self._count.step()
        if done.refusal is not None:
            self._refused(done.job, done.refusal)
            return
        lines = []
        for result in done.results:
            files = self._choice.write(result, done.job.stem, f".{result.head}" if self._several else "")
            lines.append({**result.to_json(), **files})
            if self._gallery is not None:
                self._gallery.add(result)
        self._tell(done, lines)

    def finish(self) -> None:
        """What is written at the end. Raises: OutputNotWritten."""
        if self._count is not None:
            self._count.clear()
        if self._table is not None:
            self._table.write()
        if self._gallery is not None:
            self._gallery.write()

    def _tell(self, done: Done, lines: list[dict[str, object]]) -> None:
        if self._watch is not None:
            self._watch.done(done.job, lines)
        for result, line in zip(done.results, lines, strict=True):
            if self._table is not None:
                self._table.add(line)
            if self._as_json:
                self._emit(json.dumps(line, allow_nan=False))
            else:
                self._emit(_text(result, line.get("overlay"), self._several))

    def _refused(self, job: Job, error: InputRefused) -> None:
        from madclip_runtime.result import refusal_line

        self.code = error.exit_code
        line = refusal_line(job.name, type(error).__name__, error.why, error.do)
        if self._watch is not None:
            self._watch.done(job, [line])
        if self._table is not None:
            self._table.add(line)
        if self._gallery is not None:
            self._gallery.add_refusal(job.name, error.line())
        if self._as_json:
            self._emit(json.dumps(line))
        self._talk(f"refused {error.line()}")


class Counter:
    """How far a run is, on a terminal whose stdout goes elsewhere; how much there is to do is not known beforehand."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal, self._done, self._start, self._shown = terminal, 0, time.monotonic(), 0.0

    def step(self) -> None:
        """One more; shown ten times a second at most."""
        self._done += 1
        now = time.monotonic()
        if now - self._shown >= 0.1:
            self._shown = now
            rate = self._done / max(now - self._start, 1e-3)
            self._terminal.write(f"\r{self._done} done, {rate:.1f} a second\x1b[K")
            self._terminal.flush()

    def clear(self) -> None:
        """Leave the line empty."""
        self._terminal.write("\r\x1b[K")
        self._terminal.flush()


def _text(result: Result, overlay: object, several: bool) -> str:
    head = f" {result.head}:" if several else ""
    at = "" if result.threshold is None else f" (threshold {result.threshold:.4f}, {result.operating_point})"
    where = f" -> {overlay}" if overlay else ""
    notes = "".join(f"; {note}" for note in result.notes)
    return one_line(f"{result.file}:{head} score {result.score:.4f} {result.decision}{at}{where}{notes}")
