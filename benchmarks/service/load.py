"""Many clients at one service for a while: every answer right, memory flat, throughput and latencies printed.

Not a test: it takes a minute, and its figures mean nothing beside other work. See README.md here.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from madclip_runtime import Detector
from madclip_runtime.machine import cpu_name

_IMAGES, _GROWTH = 64, 1.10


@dataclass
class Seen:
    """What the clients saw; one list a client, so that no lock slows them."""

    latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    worst: float = 0.0
    flips: int = 0


def main() -> int:
    """Run, print, judge."""
    arguments = _arguments()
    images = _images(arguments.images)
    expected = _expected(arguments, images)
    with _service(arguments) as (process, port):
        memory: list[int] = []
        stop = threading.Event()
        watch = threading.Thread(target=_watch_memory, args=(process.pid, memory, stop))
        watch.start()
        seen = _load(arguments, port, images, expected)
        stop.set()
        watch.join()
    return _report(arguments, seen, memory)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--images", type=Path, help="a folder of pictures (default: 64 of seeded noise)")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--within", type=float, default=0.0, help="largest difference of a score that is allowed")
    return parser.parse_args()


def _images(folder: Path | None) -> list[bytes]:
    if folder is not None:
        return [path.read_bytes() for path in sorted(folder.iterdir())[:_IMAGES]]
    rng = np.random.default_rng(0)
    return [_png(rng.integers(0, 256, (240 + 8 * (k % 16), 240, 3), dtype=np.uint8)) for k in range(_IMAGES)]


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _expected(arguments: argparse.Namespace, images: list[bytes]) -> list[tuple[float, str]]:
    engine = "cpu" if arguments.engine == "auto" else arguments.engine
    detector = Detector.load(arguments.bundle, engine=engine)
    results = [detector(data) for data in images]
    return [(result.score, result.decision) for result in results]


@contextlib.contextmanager
def _service(arguments: argparse.Namespace) -> Iterator[tuple[subprocess.Popen[str], int]]:
    options = ["--serve", "127.0.0.1:0", "--json", "--bundle", arguments.bundle, "--engine", arguments.engine]
    options += ["--batch", str(arguments.batch), "--queue", str(max(arguments.clients, 1))]
    command = [sys.executable, "-m", "madclip_runtime.cli", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        port = urlsplit(json.loads(process.stdout.readline())["serving"]).port
        assert port is not None
        yield process, port
    finally:
        process.terminate()
        process.wait(timeout=120)


def _watch_memory(pid: int, memory: list[int], stop: threading.Event) -> None:
    while not stop.wait(0.5):
        memory.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096)


def _load(
    arguments: argparse.Namespace, port: int, images: list[bytes], expected: list[tuple[float, str]]
) -> list[Seen]:
    seen = [Seen() for _ in range(arguments.clients)]
    end = time.monotonic() + arguments.seconds
    clients = [
        threading.Thread(target=_client, args=(k, port, images, expected, end, seen[k])) for k in range(len(seen))
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return seen


def _client(
    number: int, port: int, images: list[bytes], expected: list[tuple[float, str]], end: float, seen: Seen
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    place = number * 7
    while time.monotonic() < end:
        place = (place + 1) % len(images)
        start = time.perf_counter()
        connection.request("POST", "/v1/detect", images[place])
        answer = connection.getresponse()
        body = answer.read()
        seen.statuses[answer.status] += 1
        if answer.status == 200:
            seen.latencies_ms.append((time.perf_counter() - start) * 1e3)
            told, (score, decision) = json.loads(body), expected[place]
            seen.worst = max(seen.worst, abs(told["score"] - score))
            seen.flips += told["decision"] != decision
    connection.close()


def _report(arguments: argparse.Namespace, seen: list[Seen], memory: list[int]) -> int:
    latencies = sorted(value for one in seen for value in one.latencies_ms)
    statuses = sum((one.statuses for one in seen), Counter())
    quarter = len(memory) // 4
    early, late = (statistics.median(part) for part in (memory[quarter : 2 * quarter], memory[-quarter:]))
    report = {
        "format": "madclip-service-load/1",
        "bundle": Path(arguments.bundle).name,
        "machine": cpu_name(),
        "clients": arguments.clients,
        "seconds": arguments.seconds,
        "batch": arguments.batch,
        "answers": len(latencies),
        "per_second": round(len(latencies) / arguments.seconds, 2),
        "latency_ms": {f"p{q}": round(float(np.percentile(latencies, q)), 2) for q in (50, 90, 99)},
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "worst_score_difference": max(one.worst for one in seen),
        "decisions_that_differ": sum(one.flips for one in seen),
        "resident_mb": {"second_quarter": round(early / 1e6, 1), "last_quarter": round(late / 1e6, 1)},
    }
    wrong = report["worst_score_difference"] > arguments.within or set(statuses) - {200, 503}
    grown = late > early * _GROWTH
    sys.stdout.write(json.dumps({**report, "passed": not (wrong or grown)}) + "\n")
    return 1 if wrong or grown else 0


if __name__ == "__main__":
    sys.exit(main())
