"""One cold start, from inside: what `starts` launches again and again.

    python -m madclip_bench.cold_start BUNDLE ENGINE HEAD IMAGE CACHE LAUNCHED_NS

HEAD: "" for a bundle's only one. CACHE: a folder for what engines build. LAUNCHED_NS: when the parent launched this
process, on the same monotonic clock. The last line of stdout is one JSON document: milliseconds since then, or the
refusal that came instead. Nothing heavy is imported before the clock is read.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Load, answer one image, say how long each took."""
    interpreter_ns = time.perf_counter_ns()
    bundle, engine, head, image, cache, launched = arguments
    from madclip_runtime.errors import MadclipError

    try:
        said = _start((bundle, engine, head or None), Path(image), Path(cache), (int(launched), interpreter_ns))
    except MadclipError as error:
        said = {"refused": type(error).__name__, "what": error.what, "why": error.why, "do": error.do}
    sys.stdout.write(f"{json.dumps(said)}\n")
    return 0


def _start(what: tuple[str, str, str | None], image: Path, cache: Path, began_ns: tuple[int, int]) -> dict[str, object]:
    """what: bundle, engine, head. began_ns: launched, and interpreter up."""
    (bundle, engine, head), (launched_ns, interpreter_ns) = what, began_ns
    from madclip_bench.engine_cache import cache_options
    from madclip_runtime.detector import Detector

    imported_ns = time.perf_counter_ns()
    detector = Detector.load(bundle, engine=engine, head=head, **cache_options(cache))
    loaded_ns = time.perf_counter_ns()
    detector(image, name="image")
    answered_ns = time.perf_counter_ns()
    from madclip_bench.machine import peak_memory_bytes

    stamps = {
        "interpreter_ms": interpreter_ns,
        "import_ms": imported_ns,
        "load_ms": loaded_ns,
        "first_result_ms": answered_ns,
    }
    since = [round((stamp - launched_ns) / 1e6, 4) for stamp in stamps.values()]
    took = [after - before for before, after in zip([0.0, *since[:-1]], since, strict=True)]
    return {
        **{name: round(value, 4) for name, value in zip(stamps, took, strict=True)},
        "total_ms": since[-1],
        "peak_memory_bytes": peak_memory_bytes(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
