"""`madclip export`: joins the madclip command through the entry-point group madclip.commands."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from madclip_runtime.errors import UsageError

__all__ = ["export"]


def export(
    ckpt: Annotated[Path, typer.Option(help="checkpoint from madclip train")],
    fp16: Annotated[bool, typer.Option("--fp16", help="half precision, float32 where it matters")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="single precision (the default)")] = False,
    out: Annotated[Path | None, typer.Option(help="default: x.pt -> x-fp16.madclip")] = None,
    weights: Annotated[str | None, typer.Option(help="the encoder's weights file, if it moved")] = None,
    golden: Annotated[
        list[Path] | None, typer.Option(help="an image that may travel in the bundle; repeatable")
    ] = None,
) -> None:
    """One fused ONNX graph in a bundle, compared with the checkpoint before it is kept."""
    if fp16 and fp32:
        raise UsageError("--fp16 --fp32", "one precision at a time", "name one of them")
    precision = "fp16" if fp16 else "fp32"
    target = out or ckpt.with_name(f"{ckpt.stem}-{precision}.madclip")
    from madclip.checkpoint import Checkpoint
    from madclip_export.export import export_bundle

    start = time.perf_counter()
    done = export_bundle(
        Checkpoint.load(ckpt), target, precision=precision, weights=weights, golden=golden or [], say=_say
    )
    for notice in done.manifest.notices:
        _say(notice)
    _say(done.parity.table())
    worst = done.parity.measured
    print(
        f"{done.out}: {done.manifest.model_id}, {done.bytes / 1e6:.1f} MB in {time.perf_counter() - start:.1f} s; "
        f"worst difference from the checkpoint: score {worst['score']:.1e}, map {worst['map_max']:.1e}"
    )


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"madclip export: {line}", file=sys.stderr)
