"""The sampler: a process of its own that writes down the machine's state while another process is timed.

    python -m madclip_bench.sampler PID PERIOD_S OUT

First line of OUT: what can't be read, and why. Then one JSON line a sample, until stdin is closed (so it ends with the
process that started it, however that ends). Nothing of the timed path runs here, and nothing here runs in it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from madclip_bench.sensors import Sensor, all_sensors

__all__ = ["main", "sample"]


def sample(sensors: tuple[Sensor, ...], now_ns: int) -> dict[str, float]:
    """One line: at_s on the machine's monotonic clock, and every reading."""
    readings = {name: value for sensor in sensors for name, value in sensor.read().items()}
    return {"at_s": round(now_ns / 1e9, 4), **readings}


def main(arguments: list[str]) -> int:
    """Write until stdin ends."""
    pid, period_s, out = int(arguments[0]), float(arguments[1]), Path(arguments[2])
    sensors = tuple(all_sensors(pid))
    over = threading.Event()
    threading.Thread(target=_wait_for_end, args=(over,), daemon=True).start()
    with out.open("w", encoding="utf-8") as file:
        _write(file, {"absent": {what: why for sensor in sensors for what, why in sensor.absent.items()}})
        while True:
            _write(file, sample(sensors, time.perf_counter_ns()))
            if over.wait(period_s):
                break
        _write(file, sample(sensors, time.perf_counter_ns()))
    return 0


def _wait_for_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def _write(file: TextIO, line: object) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
