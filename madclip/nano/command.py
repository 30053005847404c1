"""`madclip pretrain-nano`: the command; torch waits until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from madclip_runtime.errors import OutputNotWritten, UsageError

__all__ = ["pretrain_nano"]


def pretrain_nano(
    teacher: Annotated[
        str, typer.Option(help="the teacher: an open_clip name or config.json, 8 blocks or more of width 192")
    ],
    out: Annotated[Path, typer.Option(help="weights file to write, e.g. nano.safetensors")],
    teacher_weights: Annotated[str | None, typer.Option(help="its weights file, or hub tag")] = None,
    steps: Annotated[int, typer.Option(help="of the image tower")] = 5000,
    caption_images: Annotated[int, typer.Option(help="drawn for the text tower")] = 3000,
    caption_steps: Annotated[int, typer.Option(help="of the text tower")] = 1500,
    seed: Annotated[int, typer.Option(help="of the start, the views and the drawings")] = 0,
    bf16: Annotated[bool, typer.Option(help="bfloat16 products: quicker where the processor has them")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one")] = "auto",
) -> None:
    """Learn the built-in encoder's weights anew (docs/nano.md)."""
    from madclip.device import choose_place
    from madclip.encoder import load_encoder
    from madclip.nano.captions import CaptionConfig
    from madclip.nano.distil import DistilConfig
    from madclip.nano.pretrain import pretrain

    if min(steps, caption_images, caption_steps) < 1 or seed < 0:
        raise UsageError("madclip pretrain-nano", "counts must be at least 1, and the seed at least 0")
    if not out.resolve().parent.is_dir():
        raise OutputNotWritten(str(out), "its folder does not exist", f"mkdir -p {out.parent}")
    place = choose_place(device)
    made = pretrain(
        load_encoder(teacher, teacher_weights).to(place.torch_device),
        DistilConfig(steps, seed=seed, bf16=bf16),
        CaptionConfig(images=caption_images, steps=caption_steps, seed=seed),
        out,
        say=lambda line: typer.echo(f"madclip: {line}", err=True),
    )
    typer.echo(
        f"{out}: {made.nbytes / 1e6:.1f} MB, sha256 {made.sha256}, {made.seconds / 60:.0f} min on {place.words()}"
        + (", the towers' products in bfloat16" if bf16 else "")
    )
