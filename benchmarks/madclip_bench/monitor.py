"""The sampler's keeper: starts it beside a run, ends it, and reads what it wrote. Judging that is `quiet` and `energy`.

A machine on which it can't run is still timed; the report then says that nothing was watched.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Monitor", "Watch", "parse"]

_PATIENCE_S = 15.0
_END_S = 10.0


@dataclass(frozen=True)
class Monitor:
    """What the sampler wrote. at_s: ascending, on the machine's monotonic clock. columns: reading by name, None where a
    sample lacks it. absent: quantity → why it could not be read.
    """

    period_s: float
    at_s: tuple[float, ...]
    columns: dict[str, tuple[float | None, ...]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def series(self, name: str) -> list[tuple[float, float]]:
        """(time in s, value) of one reading, gaps left out; empty where there is none."""
        values = self.columns.get(name, ())
        return [(at, value) for at, value in zip(self.at_s, values, strict=False) if value is not None]


def parse(text: str, period_s: float) -> Monitor:
    """The sampler's lines; a last line that was cut off is dropped."""
    lines: list[dict[str, Any]] = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    absent: dict[str, str] = next((line["absent"] for line in lines if "absent" in line), {})
    samples = [line for line in lines if "at_s" in line]
    names = dict.fromkeys(name for sample in samples for name in sample if name != "at_s")
    columns = {name: tuple(_number(sample.get(name)) for sample in samples) for name in names}
    return Monitor(period_s, tuple(float(sample["at_s"]) for sample in samples), columns, absent)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


class Watch:
    """`with Watch(period_s) as watch: …`, then `watch.monitor`. Watches the process that runs this."""

    def __init__(self, period_s: float) -> None:
        """period_s: between two samples."""
        self._period_s = period_s
        self._folder = tempfile.TemporaryDirectory(prefix="madclip-bench-")
        self._file = Path(self._folder.name) / "samples"
        self._process: subprocess.Popen[bytes] | None = None
        self.monitor = Monitor(period_s, (), {}, {"everything": "the sampler did not run"})

    def __enter__(self) -> Watch:
        """Returns when the first sample is there, so that the sampler's own start falls into no measurement."""
        command = [
            sys.executable,
            "-m",
            "madclip_bench.sampler",
            str(os.getpid()),
            str(self._period_s),
            str(self._file),
        ]
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            self._await_first()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            self._process.kill()
            self._process.wait()
            with contextlib.suppress(OSError):
                found = parse(self._file.read_text(encoding="utf-8"), self._period_s)
                self.monitor = found if found.at_s else self.monitor
        self._folder.cleanup()

    def _await_first(self) -> None:
        give_up = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):
                if self._file.read_bytes().count(b"\n") >= 2:
                    return
            time.sleep(0.02)
