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

_PRECISIONS = ("fp32", "fp16", "int8", "auto")


def export(
    ckpt: Annotated[
        list[Path], typer.Option(help="checkpoint from madclip train; several on one encoder: a head each")
    ],
    fp16: Annotated[bool, typer.Option("--fp16", help="half precision, float32 where it matters")] = False,
    fp32: Annotated[bool, typer.Option("--fp32", help="single precision (the default)")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="8-bit products: the quickest on a CPU")] = False,
    precision: Annotated[str | None, typer.Option(help="fp32, fp16, int8, or auto: the fastest that passes")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="images for int8's static ranges (Q/DQ, for GPUs); never test images")
    ] = None,
    verify_data: Annotated[
        list[str] | None, typer.Option(help="an _AD folder or images to compare on; HEAD=DIR with several heads")
    ] = None,
    golden: Annotated[
        list[Path] | None, typer.Option(help="an image that may travel in the bundle; repeatable")
    ] = None,
    accept_degraded: Annotated[
        str, typer.Option(help="why a missed gate is accepted: stands in the bundle and in every result")
    ] = "",
    notice: Annotated[list[str] | None, typer.Option(help="a sentence for every result to carry; repeatable")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="besides onnx: tensorrt, tensorrt-rtx; repeatable")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="for tensorrt-rtx: a compute capability, e.g. sm89; default: Ampere and later"),
    ] = None,
    max_batch: Annotated[int, typer.Option(help="largest batch a plan is built for")] = 8,
    timing_cache: Annotated[
        Path | None, typer.Option(help="file of the plan builder's timings, kept for next time")
    ] = None,
    workspace_mb: Annotated[int, typer.Option(help="most scratch memory of a plan; 0: the library's choice")] = 0,
    out: Annotated[Path | None, typer.Option(help="default: x.pt -> x-fp16.madclip")] = None,
    weights: Annotated[str | None, typer.Option(help="the encoder's weights file, if it moved")] = None,
    encoder_licence: Annotated[str, typer.Option(help="licence of the encoder's weights, for the model card")] = "",
) -> None:
    """One fused ONNX graph in a bundle, compared with the checkpoint before it is kept."""
    wanted = _precision(precision, fp32=fp32, fp16=fp16, int8=int8)
    heads = _head_names(ckpt)
    if len(ckpt) > 1 and out is None:
        raise UsageError(f"{len(ckpt)} checkpoints", "the bundle needs a name", "--out hospital.madclip")
    if calibration is not None and wanted not in ("int8", "auto"):
        raise UsageError("--calibration", f"has no meaning for {wanted}", "add --int8")
    place = out or ckpt[0].with_name(f"{ckpt[0].stem}-{wanted}.madclip")
    from madclip.checkpoint import Checkpoint
    from madclip_export.auto import export_fastest
    from madclip_export.export import export_bundle, load_sources
    from madclip_export.plans import PlanOptions
    from madclip_export.request import Request

    start = time.perf_counter()
    request = Request(
        precision=wanted,
        golden=tuple(golden or ()),
        calibration=calibration,
        verify=_verify_data(verify_data or [], list(heads)),
        degraded=accept_degraded.strip(),
        encoder_licence=encoder_licence,
        notices=tuple(notice or ()),
        plans=PlanOptions(
            tuple(formats or ()), tuple(target or ()), max_batch, timing_cache=timing_cache, workspace_mb=workspace_mb
        ),
    )
    sources = load_sources({name: Checkpoint.load(path) for name, path in heads.items()}, weights)
    done = (export_fastest if wanted == "auto" else export_bundle)(sources, place, request, _say)
    for line in (*done.manifest.notices, *done.measured.lines()):
        _say(line)
    worst = {name: max(p.measured[name] for p in done.measured.parity.values()) for name in ("score", "map_max")}
    print(
        f"{done.out}: {done.manifest.model_id}, {done.bytes / 1e6:.1f} MB in {time.perf_counter() - start:.1f} s; "
        f"worst difference from the checkpoint: score {worst['score']:.1e}, map {worst['map_max']:.1e}"
    )


def _precision(named: str | None, **flags: bool) -> str:
    asked = [name for name, given in flags.items() if given] + ([named] if named is not None else [])
    if len(asked) > 1:
        raise UsageError(" and ".join(asked), "one precision at a time", "name one of them, or --precision auto")
    if named is not None and named not in _PRECISIONS:
        raise UsageError(f"--precision {named}", f"must be one of {', '.join(_PRECISIONS)}")
    return asked[0] if asked else "fp32"


def _head_names(paths: list[Path]) -> dict[str, Path]:
    """A head is called as its checkpoint's file: Brain_AD.pt → brain-ad. Raises: UsageError where two share a name."""
    names = [re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:32] or "head" for path in paths]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"head {twice[0]}", "two checkpoints have this file name", "rename one")
    return dict(zip(names, paths, strict=True))


def _verify_data(given: list[str], heads: list[str]) -> dict[str, Path]:
    """DIR for the only head, HEAD=DIR else. Raises: UsageError."""
    found: dict[str, Path] = {}
    for text in given:
        head, equals, folder = text.partition("=")
        if not equals or head not in heads:
            head, folder = heads[0], text
            if len(heads) > 1:
                raise UsageError(f"--verify-data {text}", "which head?", f"{heads[0]}=DIR, one of {', '.join(heads)}")
        if head in found:
            raise UsageError(f"--verify-data {text}", f"head {head} has one already", "give one folder a head")
        found[head] = Path(folder)
    return found


def _say(text: str) -> None:
    for line in text.splitlines():
        print(f"madclip export: {line}", file=sys.stderr)
