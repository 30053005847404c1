"""Rounds over all methods in alternating order, and what comes of them: medians, paired ratios, shares of the limit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from limit import Products
from methods import Method, Wanted
from model import shape_of
from work import useful_flops

from madclip.phantoms import make_phantom
from madclip_bench.integrity import code_sha256
from madclip_bench.intervals import sign_interval
from madclip_bench.machine import load_average, read_machine
from madclip_bench.monitor import Watch
from madclip_bench.quiet import QuietFigures, Window
from madclip_bench.words import milliseconds, percent
from madclip_runtime.schema import encode

__all__ = ["measure", "table"]

FORMAT = "madclip-peers/1"
_BASE = "eager"
_SETTLE_S = 0.3


def measure(methods: list[Method], wanted: Wanted, rounds: int, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Every method once a round on that round's image, the order reversed every other round, products in between."""
    torch.set_num_threads(wanted.threads)
    shape, before = shape_of(wanted.checkpoint, wanted.encoder), load_average()
    products = Products(shape, wanted.device, wanted.threads)
    taken: dict[str, list[float]] = {method.name: [] for method in methods}
    gaps = {method.name: {"score": 0.0, "map": 0.0} for method in methods}
    orders: list[list[str]] = []
    images = [_image(i, wanted.encoder.spec.image_size) for i in range(rounds + 1)]
    for method in methods:
        method.run(images[-1])  # warm-up
    with Watch(0.5) as watch:
        began = time.perf_counter()
        for number in range(rounds):
            order = methods if number % 2 == 0 else methods[::-1]
            orders.append([method.name for method in order])
            answers = {method.name: _timed(method, images[number], taken[method.name]) for method in order}
            _note_gaps(gaps, answers)
            products.run_once()
            say(f"round {number + 1} of {rounds}")
        window = Window(began, time.perf_counter())
    quiet = QuietFigures.of(watch.monitor, window)
    flops = useful_flops(shape)
    return {
        "format": FORMAT,
        "unstable": list(quiet.noise),
        "model": _model(wanted, flops),
        "threads": wanted.threads,
        "device": wanted.device,
        "rounds": rounds,
        "orders": orders,
        "methods": {m.name: _row(m, taken, gaps[m.name], flops, products) for m in methods},
        "products_gflops": {
            number: {library: round(rate / 1e9, 1) for library, rate in rates.items()}
            for number, rates in products.best.items()
        },
        "quiet": encode(quiet),
        "machine": encode(read_machine().with_load(before, load_average())),
        "torch": torch.__version__,
        "code_sha256": code_sha256(),
    }


def table(document: dict[str, Any]) -> Iterator[str]:
    """Markdown, the fastest last."""
    model = document["model"]
    yield f"{model['encoder']} at {model['image_size']} px, {model['useful_gflops']:.0f} GFLOP an image"
    yield f"{document['threads']} threads, medians of {document['rounds']} rounds in alternating order"
    if document["unstable"]:
        yield f"UNSTABLE: {'; '.join(document['unstable'])}"
    yield "| method | median | times as fast as eager | 95 % | share of the limit | largest map difference |"
    yield "|---|---|---|---|---|---|"
    for name, row in sorted(document["methods"].items(), key=lambda item: -item[1]["median_ms"]):
        ratio, interval = row["times_as_fast"], row["interval"]
        sure = "" if interval is None else f"{interval[0]:.2f}–{interval[1]:.2f}"
        share = "" if row["share_of_limit"] is None else percent(row["share_of_limit"])
        fast = "" if ratio is None else f"{ratio:.2f}"
        cells = (name, milliseconds(row["median_ms"]), fast, sure, share, f"{row['agreement']['map']:.1e}")
        yield f"| {' | '.join(cells)} |"
    for name, why in document.get("skipped", {}).items():
        yield f"skipped {name}: {why}"


def _timed(method: Method, image: np.ndarray, taken: list[float]) -> tuple[float, np.ndarray]:
    # ONNX Runtime's threads spin for a while after their work; the next method must not pay for that.
    time.sleep(_SETTLE_S)
    start = time.perf_counter()
    answer = method.run(image)
    taken.append(round((time.perf_counter() - start) * 1e3, 4))
    return answer


def _note_gaps(gaps: dict[str, dict[str, float]], answers: dict[str, tuple[float, np.ndarray]]) -> None:
    base = answers.get(_BASE) or next(iter(answers.values()))
    for name, (score, heat) in answers.items():
        gaps[name]["score"] = max(gaps[name]["score"], abs(score - base[0]))
        gaps[name]["map"] = max(gaps[name]["map"], float(np.abs(heat - base[1]).max()))


def _row(
    method: Method, taken: dict[str, list[float]], gap: dict[str, float], flops: float, products: Products
) -> dict[str, Any]:
    mine, base = taken[method.name], taken.get(_BASE)
    ratios = [] if base is None else sorted(b / m for b, m in zip(base, mine, strict=True))
    ranks = sign_interval(len(ratios))
    median, limit = statistics.median(mine), products.limit(method.number)
    rate = flops / (median / 1e3)
    return {
        "what": method.what,
        "number": method.number,
        "prepare_s": method.prepare_s,
        "ms": mine,
        "median_ms": round(median, 4),
        "times_as_fast": round(statistics.median(ratios), 4) if ratios else None,
        "interval": None if ranks is None else [round(ratios[ranks[0]], 4), round(ratios[ranks[1]], 4)],
        "gflops": round(rate / 1e9, 1),
        "share_of_limit": None if limit is None else round(rate / limit, 4),
        "agreement": {key: float(f"{value:.3g}") for key, value in gap.items()},
    }


def _model(wanted: Wanted, flops: float) -> dict[str, Any]:
    spec = wanted.encoder.spec
    return {
        "encoder": spec.name,
        "random_weights": spec.random,
        "image_size": spec.image_size,
        "image_score": wanted.checkpoint.card.image_score,
        "useful_gflops": round(flops / 1e9, 2),
        "parameters": sum(p.numel() for p in wanted.encoder.visual.parameters())
        + sum(tensor.numel() for tensor in wanted.checkpoint.adapters.values()),
    }


def _image(index: int, size: int) -> np.ndarray:
    grey = make_phantom(7, index, abnormal=index % 2 == 1, size=size).image
    return np.repeat(grey[None, :, :, None], 3, axis=3)
