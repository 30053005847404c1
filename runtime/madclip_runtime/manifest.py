"""The bundle's manifest: what is deployed, said in types. The one-page contract is docs/bundle.md.

Reading is strict (schema.decode); writing is deterministic: the same values give the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from madclip_runtime.schema import SchemaError, decode, encode
from madclip_runtime.window import Window

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "IMAGE_SCORE_RULES",
    "NOTICE",
    "Calibration",
    "DataCard",
    "EncoderCard",
    "FileEntry",
    "Gate",
    "Head",
    "InputContract",
    "Manifest",
    "OperatingPoint",
    "Proportion",
    "output_names",
]

FORMAT = "madclip-bundle"
FORMAT_VERSION = 2
NOTICE = "research use, not a medical device"
IMAGE_SCORE_RULES = ("det", "map_max", "blend")
PRECISIONS = ("fp32", "fp16", "int8")
_HEAD_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class InputContract:
    """What the graph takes: `image` uint8 [N, size, size, 3] RGB 0–255; everything after that is inside the graph.

    mean, std: per channel, of pixels in 0–1, already folded in; (0, 0, 0) and (1, 1, 1) where none is used.
    resize: how an image becomes a square; sixteen_bit: how 16-bit grey of an image file becomes 8-bit. How measured
    values (DICOM, NIfTI) do is each head's own window.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str = "pillow-bicubic-antialias-square"
    sixteen_bit: str = "linear-0-65535"

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 2048:
            raise SchemaError(f"input.size must be in 16–2048, got {self.size}")
        if self.resize != "pillow-bicubic-antialias-square" or self.sixteen_bit != "linear-0-65535":
            raise SchemaError("input.resize or input.sixteen_bit names a rule this runtime does not have")


@dataclass(frozen=True)
class Proportion:
    """k of n images, with the two-sided 95 % Clopper–Pearson interval; all in 0–1."""

    k: int
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OperatingPoint:
    """score ≥ threshold means abnormal; what that did on the calibration images."""

    threshold: float
    sensitivity: Proportion
    specificity: Proportion

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:  # else every image would silently get the same decision
            raise ValueError(f"threshold must be in 0–1, got {self.threshold}")


@dataclass(frozen=True)
class Calibration:
    """Where thresholds come from. No points means: uncalibrated, raw scores only, and `reason` says why.

    refused: operating points the data can't support, each with the sentence why.
    """

    reason: str
    points: dict[str, OperatingPoint] = field(default_factory=dict)
    default: str | None = None
    refused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.default is not None and self.default not in self.points:
            raise SchemaError(f"calibration.default {self.default!r} is not among its points")


@dataclass(frozen=True)
class EncoderCard:
    """Which frozen encoder. weights: where they came from in words; random: True where nothing was ever learned.

    licence: of the weights, "not stated" where nobody said.
    """

    name: str
    weights: str
    sha256: str
    random: bool
    taps: tuple[int, ...]
    licence: str = "not stated"


@dataclass(frozen=True)
class DataCard:
    """What the adapters learned from; no file names, no pixels. window: which measured values became black and white
    when the images were prepared, None where they came as pictures.
    """

    dataset: str
    objective: str
    synthetic: bool
    normal_shots: int
    abnormal_shots: int
    masks: bool
    epochs: int
    seed: int
    window: Window | None = None


@dataclass(frozen=True)
class Gate:
    """One comparison of one head that the export had to pass: what was measured, and the limit each number had to keep.

    passed: False only in a bundle that says so in `degraded`.
    """

    name: str
    reference: str
    engine: str
    images: int
    passed: bool
    measured: dict[str, float]
    limits: dict[str, float]
    head: str = ""


@dataclass(frozen=True)
class Head:
    """One trained anatomy on the bundle's encoder: what its score is, when it decides, and what it learned from.

    image_score: "det" (mean over patches), "map_max" (maximum of the map) or "blend" of both:
    (1 − map_share)·det + map_share·map_max. map_smoothing_px: standard deviation of the Gaussian that has smoothed the
    map, in pixels of the model's size, 0 for none. score_error: the largest difference from the checkpoint's own score
    that the gates measured; a score nearer to a threshold than this is borderline.
    """

    image_score: str
    calibration: Calibration
    data: DataCard
    checkpoint_sha256: str
    map_share: float = 1.0
    map_smoothing_px: float = 0.0
    score_error: float = 0.0

    def __post_init__(self) -> None:
        if self.image_score not in IMAGE_SCORE_RULES:
            raise SchemaError(f"image_score must be one of {IMAGE_SCORE_RULES}, got {self.image_score!r}")
        if not (0 <= self.map_share <= 1 and 0 <= self.map_smoothing_px <= 64 and 0 <= self.score_error <= 1):
            raise SchemaError("map_share, map_smoothing_px or score_error is out of range")


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle: its SHA-256 (lower-case hex) and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """All of manifest.json.

    heads: by name, at least one; their outputs are named by `output_names`. degraded: why a bundle that missed a gate
    was kept all the same, "" for all others. quantisation: of int8, "dynamic" or "static, Q/DQ".
    """

    model_id: str
    precision: str
    input: InputContract
    encoder: EncoderCard
    heads: dict[str, Head]
    gates: tuple[Gate, ...]
    versions: dict[str, str]
    files: dict[str, FileEntry]
    notices: tuple[str, ...] = (NOTICE,)
    degraded: str = ""
    quantisation: str = ""
    format: str = FORMAT
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise SchemaError(f"precision must be one of {PRECISIONS}, got {self.precision!r}")
        if not self.heads or not all(_HEAD_NAME.fullmatch(name) for name in self.heads):
            raise SchemaError("heads must be named by a–z, 0–9 and -, at most 32, and there must be one")
        if not self.degraded and not all(gate.passed for gate in self.gates):
            raise SchemaError("a gate was missed, and degraded does not say why that is accepted")
        if self.notices[:1] != (NOTICE,):
            raise SchemaError(f"notices must begin with {NOTICE!r}")

    @property
    def only_head(self) -> str | None:
        """The head's name where there is one, else None."""
        return next(iter(self.heads)) if len(self.heads) == 1 else None

    def to_json(self) -> bytes:
        """UTF-8 JSON, sorted keys, no clock in it."""
        text = json.dumps(encode(self), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return (text + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Raises: SchemaError with the path of the first fault."""
        try:
            parsed = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"not JSON ({str(error)[:80]})") from None
        _check_version(parsed)
        return decode(cls, parsed)


def output_names(heads: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Head → the graph's outputs of its score and map: "score", "map" of an only one, else "score_<head>", …"""
    names = list(heads)
    return {names[0]: ("score", "map")} if len(names) == 1 else {n: (f"score_{n}", f"map_{n}") for n in names}


def _check_version(parsed: object) -> None:
    if not isinstance(parsed, dict) or parsed.get("format") != FORMAT:
        raise SchemaError(f"not a {FORMAT} manifest")
    version = parsed.get("format_version")
    if version != FORMAT_VERSION:
        raise SchemaError(f"format version {version!r}; this runtime reads version {FORMAT_VERSION}")
