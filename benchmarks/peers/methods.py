"""Every way of running the model, built one by one; what can't be built says why and is skipped, never replaced."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from forms import AuthorsForm, TwoChannels, write_plain
from torch import nn

from madclip.checkpoint import Checkpoint
from madclip.encoder import Encoder
from madclip_runtime.bundle import Bundle
from madclip_runtime.engines import ENGINES, load_engine
from madclip_runtime.errors import MadclipError
from madclip_runtime.manifest import PRECISIONS

__all__ = ["Method", "Skipped", "build_methods"]

Pixels = npt.NDArray[np.uint8]
Answer = tuple[float, npt.NDArray[np.float32]]
Form = tuple[str, str, Callable[[Pixels], Answer]]
"""What it is in words, the type its products are computed in, and how to run it."""
_HEAD = "peer"


@dataclass(frozen=True)
class Method:
    """run: uint8 [1, S, S, 3] → score, map float32 [S, S]. number: the type its products are computed in.

    prepare_s: what building took, exporting and compiling included.
    """

    name: str
    what: str
    number: str
    run: Callable[[Pixels], Answer]
    prepare_s: float


@dataclass(frozen=True)
class Skipped:
    """A method that could not be built."""

    name: str
    why: str


@dataclass(frozen=True)
class Wanted:
    """What was asked for. half: PyTorch in float16 too. skip: names left out.

    export_args: precision → more words for `madclip export`.
    """

    checkpoint: Checkpoint
    encoder: Encoder
    folder: Path
    device: str
    threads: int
    half: bool
    skip: frozenset[str]
    export_args: dict[str, str]


def build_methods(wanted: Wanted) -> Iterator[Method | Skipped]:
    """One after the other, each warmed up once."""
    for name, make in {**_FORMS, **(_HALF_FORMS if wanted.half else {})}.items():
        if name not in wanted.skip:
            yield _built(name, lambda make=make: make(wanted))  # type: ignore[misc]
    for precision in PRECISIONS:
        if precision not in wanted.skip:
            yield from _ours(wanted, precision)


def _built(name: str, make: Callable[[], Form]) -> Method | Skipped:
    start = time.perf_counter()
    try:
        what, number, run = make()
        return Method(name, what, number, run, round(time.perf_counter() - start, 2))
    except Exception as error:  # torch, its compiler and ONNX Runtime each raise their own
        return Skipped(name, f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}")


def _torch_run(module: nn.Module, device: str) -> Callable[[Pixels], Answer]:
    def run(image: Pixels) -> Answer:
        with torch.no_grad():
            score, _, heat = module(torch.from_numpy(image).to(device))
        return float(score[0]), heat[0].float().cpu().numpy()  # the copy waits until the device is done

    return run


def _eager(wanted: Wanted) -> Form:
    module = AuthorsForm(wanted.checkpoint, wanted.encoder).eval().to(wanted.device)
    return "PyTorch eager, as the authors run it", "fp32", _torch_run(module, wanted.device)


def _sdpa(wanted: Wanted) -> Form:
    module = TwoChannels(wanted.checkpoint, wanted.encoder).eval().to(wanted.device)
    return "PyTorch eager, fused attention, two channels", "fp32", _torch_run(module, wanted.device)


def _compiled(wanted: Wanted) -> Form:
    module = TwoChannels(wanted.checkpoint, wanted.encoder).eval().to(wanted.device)
    run = _torch_run(torch.compile(module), wanted.device)  # type: ignore[arg-type]
    size = wanted.encoder.spec.image_size
    run(np.zeros((1, size, size, 3), np.uint8))  # compiles now, or fails now
    return "torch.compile of the same", "fp32", run


def _plain_onnx(wanted: Wanted) -> Form:
    import onnxruntime

    module = TwoChannels(wanted.checkpoint, wanted.encoder).eval()
    path = write_plain(module, wanted.folder / "plain.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, wanted.threads
    provider = "CUDAExecutionProvider" if wanted.device == "cuda" else "CPUExecutionProvider"
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"ONNX Runtime did not activate {provider}")

    def run(image: Pixels) -> Answer:
        score, _, heat = session.run(None, {"image": image})
        return float(score[0]), heat[0]

    return f"the two-channel module as plain ONNX, {provider}", "fp32", run


def _in_half(make: Callable[[Wanted], Form]) -> Callable[[Wanted], Form]:
    """The same with torch's own mixed precision: products in float16, the rest as torch decides."""

    def made(wanted: Wanted) -> Form:
        with torch.autocast(wanted.device, torch.float16):  # a compiled form is compiled in here
            what, _, run = make(wanted)

        def in_half(image: Pixels) -> Answer:
            with torch.autocast(wanted.device, torch.float16):
                return run(image)

        return f"{what}, float16 autocast", "fp16", in_half

    return made


_FORMS = {"eager": _eager, "sdpa": _sdpa, "compile": _compiled, "onnx": _plain_onnx}
_HALF_FORMS = {f"{name} fp16": _in_half(_FORMS[name]) for name in ("eager", "sdpa", "compile")}


def _ours(wanted: Wanted, precision: str) -> Iterator[Method | Skipped]:
    start = time.perf_counter()
    try:
        bundle = _export(wanted, precision)
    except (MadclipError, OSError, RuntimeError) as error:
        yield Skipped(precision, f"no bundle: {error}")
        return
    took = time.perf_counter() - start
    for engine in ENGINES:
        if engine == "auto" or engine in wanted.skip:
            continue
        made = _built(f"{engine} {precision}", lambda engine=engine: _engine(bundle, engine))  # type: ignore[misc]
        yield (
            made
            if isinstance(made, Skipped)
            else Method(**{**vars(made), "prepare_s": round(took + made.prepare_s, 2)})
        )


def _export(wanted: Wanted, precision: str) -> Bundle:
    """By the command line, as a user would; a precision it does not know is its own refusal."""
    ckpt, out = wanted.folder / f"{_HEAD}.pt", wanted.folder / f"{_HEAD}-{precision}.madclip"
    if not ckpt.exists():
        wanted.checkpoint.save(ckpt)
    more = shlex.split(wanted.export_args.get(precision, ""))
    command = [sys.executable, "-m", "madclip.cli", "export", "--ckpt", str(ckpt), f"--{precision}", "--out", str(out)]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if line.strip(" │╭╰─╮╯")]
        raise RuntimeError(f"madclip export --{precision}: {words[-1].strip(' │') if words else done.returncode}")
    return Bundle.load(out)


def _engine(bundle: Bundle, name: str) -> Form:
    engine = load_engine(bundle, name)
    info = engine.info

    def run(image: Pixels) -> Answer:
        scores, maps = next(iter(engine.run(image).values()))
        return float(scores[0]), maps[0]

    # ONNX Runtime's CPU build has few float16 kernels: such a graph is computed in float32 between casts.
    number = "fp32" if (info.precision, name) == ("fp16", "cpu") else info.precision
    return f"our bundle, {info.name} ({info.library}), {info.precision}", number, run
