"""The frozen CLIP: found, loaded, hashed, and asked for its taps. Paper, section 2.

Any open_clip model serves: by hub name, by a local weights file, or by a local config with weights (air-gapped).
What this module does not know: adapters, prompts, or how an image was decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from madclip.config import IMAGE_SIZE, EncoderSpec
from madclip_runtime.errors import InputRefused, UsageError

__all__ = ["Encoder", "load_encoder", "reload_encoder"]

_NANO = "nano"
_BUILT_IN = "built-in:nano.safetensors"
_LEVELS = 4


class Encoder(nn.Module):
    """A loaded, frozen CLIP and the spec that names it."""

    def __init__(self, clip: nn.Module, spec: EncoderSpec) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.spec = spec
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(3, 1, 1), persistent=False)

    @property
    def visual(self) -> nn.Module:
        """open_clip's image tower."""
        return self.clip.visual  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.mean.device

    @torch.no_grad()
    def taps(self, images: Tensor) -> list[Tensor]:
        """images: float [N, 3, S, S] RGB 0–1, from anywhere → one float [N, L, d] a tap, where the encoder is.

        Taps are block outputs, class token dropped; always in float32.
        """
        normal = (images.to(self.device) - self.mean) / self.std
        output = self.visual.forward_intermediates(  # type: ignore[operator]
            normal,
            indices=[tap - 1 for tap in self.spec.taps],
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return list(output["image_intermediates"])

    def tap_shape(self) -> tuple[int, int]:
        """L patch tokens and width d of a tap. Raises: UsageError where the grid is not square."""
        size = self.spec.image_size
        length, width = self.taps(torch.zeros(1, 3, size, size))[0].shape[1:]
        if round(length**0.5) ** 2 != length:
            raise UsageError(f"encoder {self.spec.name}", f"its {length} patch tokens are no square grid")
        return length, width


def load_encoder(name: str, weights: str | None, *, quick_gelu: bool | None = None) -> Encoder:
    """name: an open_clip name, "hf-hub:…", "nano", or a config's path ending in .json.

    weights: a file, a hub tag, "random", or None for the name's own; "nano" has its in the package.
    quick_gelu: None follows the weights.
    Raises: UsageError, InputRefused.
    """
    label, model_config = _resolve_name(name)
    reference = _resolve_weights(label, model_config, weights)
    spec = EncoderSpec(
        name=label,
        model_config=model_config,
        weights=reference,
        sha256="",
        image_size=IMAGE_SIZE,
        taps=(),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        quick_gelu=_wants_quick_gelu(label, model_config, reference) if quick_gelu is None else quick_gelu,
    )
    clip = _build(spec)
    preprocess = clip.visual.preprocess_cfg
    full = replace(
        spec,
        sha256=_hash_tensors(clip),
        taps=_quarters(clip),
        mean=_three(preprocess["mean"]),
        std=_three(preprocess["std"]),
    )
    return Encoder(clip, full)


def reload_encoder(spec: EncoderSpec, weights: str | None = None) -> Encoder:
    """The same encoder again, proven by its hash. weights: where its file lies now, if it moved.

    Raises: InputRefused where the tensors are not the ones the checkpoint was trained on.
    """
    if weights is not None:
        spec = replace(spec, weights=_resolve_weights(spec.name, spec.model_config, weights))
    clip = _build(spec)
    found = _hash_tensors(clip)
    if found != spec.sha256:
        raise InputRefused(
            f"encoder {spec.name} from {spec.weights}",
            f"its tensors hash to {found[:12]}, the checkpoint was trained on {spec.sha256[:12]}",
            "give the same weights: --weights FILE",
        )
    return Encoder(clip, spec)


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _resolve_name(name: str) -> tuple[str, str]:
    """A short label, and the model config as JSON text where the name is not open_clip's own."""
    if name == _NANO:
        return _NANO, resources.files("madclip").joinpath("nano/nano.json").read_text()
    if not name.endswith(".json"):
        return name.replace("/", "-") if not name.startswith("hf-hub:") else name, ""
    try:
        parsed = json.loads(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise InputRefused(name, str(error), "give an open_clip model config") from None
    if not isinstance(parsed, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(parsed):
        raise InputRefused(name, "lacks embed_dim, vision_cfg or text_cfg", "give an open_clip model config")
    return Path(name).stem, json.dumps(parsed, sort_keys=True)


def _resolve_weights(name: str, model_config: str, weights: str | None) -> str:
    if weights == "random":
        return "random:0"
    if name == _NANO and weights is None:
        return _BUILT_IN
    if weights is not None and Path(weights).is_file():
        return f"file:{Path(weights).resolve()}"
    tags = [] if model_config or name.startswith("hf-hub:") else _tags(name)
    if weights is not None and weights in tags:
        return f"tag:{weights}"
    if weights is None and name.startswith("hf-hub:"):
        return "hub"
    if weights is None and len(tags) == 1:
        return f"tag:{tags[0]}"
    known = f"one of its hub tags ({', '.join(tags)})" if tags else "a weights file"
    given = f"--weights {weights} is no file and no known tag" if weights is not None else "--weights is needed"
    raise UsageError(f"encoder {name}", given, f"give --weights FILE, --weights random, or {known}")


def _tags(name: str) -> list[str]:
    open_clip = _open_clip()
    if name not in open_clip.list_models():
        raise UsageError(f"encoder {name}", "open_clip knows no such model", "see open_clip.list_models()")
    return list(open_clip.list_pretrained_tags_by_model(name))


def _wants_quick_gelu(name: str, model_config: str, reference: str) -> bool:
    """Follow the hub tag; a local file for a model whose every public tag is QuickGELU is taken to be one of those."""
    if model_config or name.startswith("hf-hub:"):
        return False
    open_clip = _open_clip()
    wanted = [reference[4:]] if reference.startswith("tag:") else _tags(name)
    configs = [open_clip.get_pretrained_cfg(name, tag) for tag in wanted]
    return bool(configs) and all(bool(config.get("quick_gelu")) for config in configs)


def _build(spec: EncoderSpec) -> Any:
    open_clip = _open_clip()
    kind, _, where = spec.weights.partition(":")
    if kind == "file" and not Path(where).is_file():
        raise InputRefused(f"encoder {spec.name}", f"its weights are no longer at {where}", "give --weights FILE")
    pretrained = where if kind in ("file", "tag") else None
    if kind == "built-in":
        pretrained = str(resources.files("madclip").joinpath(f"nano/{where}"))
    options: dict[str, Any] = {"force_image_size": spec.image_size}
    if spec.quick_gelu:
        options["force_quick_gelu"] = True
    with _registered(open_clip, spec) as name, _seeded(where if kind == "random" else "0"):
        try:
            return open_clip.create_model(name, pretrained=pretrained, load_weights=kind != "random", **options)
        except Exception as error:  # open_clip, torch and the hub each raise their own
            hint = (
                "without the hub, give --weights FILE" if kind in ("tag", "hub") else "check that both belong together"
            )
            first_line = str(error).strip().partition("\n")[0]
            raise InputRefused(f"encoder {spec.name} from {spec.weights}", first_line[:200], hint) from None


@contextlib.contextmanager
def _registered(open_clip: Any, spec: EncoderSpec) -> Iterator[str]:
    """Give open_clip a local config under a name that can't collide with its own."""
    if not spec.model_config:
        yield spec.name
        return
    name = f"madclip-{hashlib.sha256(spec.model_config.encode()).hexdigest()[:16]}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.json"
        path.write_text(spec.model_config)
        open_clip.add_model_config(path)
    yield name


@contextlib.contextmanager
def _seeded(seed: str) -> Iterator[None]:
    """Random weights from their own seed, without touching anybody else's random state; open_clip's remarks muted."""
    root = logging.getLogger()
    level = root.level
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            root.setLevel(level)


def _quarters(clip: Any) -> tuple[int, ...]:
    visual = clip.visual
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None:
        blocks = getattr(getattr(visual, "trunk", None), "blocks", None)
    if blocks is None or len(blocks) < _LEVELS or not hasattr(visual, "forward_intermediates"):
        raise UsageError("this encoder", "its image tower has no four transformer blocks to tap", "choose a ViT")
    return tuple(len(blocks) * quarter // _LEVELS for quarter in range(1, _LEVELS + 1))


def _hash_tensors(clip: nn.Module) -> str:
    """SHA-256 over every tensor's name, type, shape and bytes, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(clip.state_dict().items()):
        plain = tensor.detach().contiguous().cpu()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.view(-1).view(torch.uint8).numpy().data if plain.ndim else plain.numpy().tobytes())
    return digest.hexdigest()


def _open_clip() -> Any:
    from madclip.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import open_clip

    return open_clip
