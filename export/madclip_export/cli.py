"""`madclip export`: joins the madclip command through the entry-point group madclip.commands."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from madclip_runtime.errors import UsageError

__all__ = ["export"]


def export(
    ckpt: Annotated[
        list[Path], typer.Option(help="checkpoint from madclip train; several on one encoder: a head each")
    ],
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
    if len(ckpt) > 1 and out is None:
        raise UsageError(f"{len(ckpt)} checkpoints", "the bundle needs a name", "--out hospital.madclip")
    target = out or ckpt[0].with_name(f"{ckpt[0].stem}-{precision}.madclip")
    from madclip.checkpoint import Checkpoint
    from madclip_export.export import export_bundle

    start = time.perf_counter()
    heads = {name: Checkpoint.load(path) for name, path in _head_names(ckpt).items()}
    done = export_bundle(heads, target, precision=precision, weights=weights, golden=golden or [], say=_say)
    for notice in done.manifest.notices:
        _say(notice)
    for parity in done.parity.values():
        _say(parity.table())
    worst = {name: max(p.measured[name] for p in done.parity.values()) for name in ("score", "map_max")}
    print(
        f"{done.out}: {done.manifest.model_id}, {done.bytes / 1e6:.1f} MB in {time.perf_counter() - start:.1f} s; "
        f"worst difference from the checkpoint: score {worst['score']:.1e}, map {worst['map_max']:.1e}"
    )


def _head_names(paths: list[Path]) -> dict[str, Path]:
    """A head is called as its checkpoint's file: Brain_AD.pt → brain-ad. Raises: UsageError where two share a name."""
    names = [re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:32] or "head" for path in paths]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"head {twice[0]}", "two checkpoints have this file name", "rename one")
    return dict(zip(names, paths, strict=True))


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"madclip export: {line}", file=sys.stderr)
