"""The report: setting, raw samples, and all that follows from them, as JSON first. The contract is docs/report.md.

What this module does not know: how a report is built from its samples (building), how anything was timed, or how a
page looks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from madclip_bench.accuracy import PromisedFigures
from madclip_bench.figures import Figures
from madclip_bench.images import ImageCard
from madclip_bench.integrity import Packed, unpack
from madclip_bench.machine import Machine
from madclip_bench.packages import PackageCard
from madclip_bench.raw import Raw
from madclip_bench.rules import Rules
from madclip_runtime.bundle import MANIFEST, Bundle
from madclip_runtime.engines import EngineInfo
from madclip_runtime.manifest import DataCard, EncoderCard, Gate, OperatingPoint
from madclip_runtime.schema import SchemaError, decode, encode

__all__ = ["FORMAT", "BundleCard", "Report", "Setting"]

FORMAT = "madclip-report/2"


@dataclass(frozen=True)
class BundleCard:
    """Which bundle. digest: SHA-256 of its manifest, which holds the hash of every file that ran.

    point: the head's default operating point by name, None where it has none. gates: what the head's export was held
    to. degraded: why it was kept although it missed one, else "".
    """

    model_id: str
    digest: str
    precision: str
    head: str
    image_score: str
    input_size: int
    disk_bytes: int
    encoder: EncoderCard
    data: DataCard
    point_name: str | None
    point: OperatingPoint | None
    gates: tuple[Gate, ...]
    degraded: str
    notices: tuple[str, ...]

    @classmethod
    def of(cls, bundle: Bundle, name: str) -> BundleCard:
        """From a checked bundle and the head that is timed; disk_bytes: the files its manifest lists, and itself."""
        manifest, head = bundle.manifest, bundle.manifest.heads[name]
        default = head.calibration.default
        return cls(
            model_id=manifest.model_id,
            digest=bundle.digest,
            precision=manifest.precision,
            head=name,
            image_score=head.image_score,
            input_size=manifest.input.size,
            disk_bytes=sum(entry.bytes for entry in manifest.files.values()) + (bundle.path / MANIFEST).stat().st_size,
            encoder=manifest.encoder,
            data=head.data,
            point_name=default,
            point=None if default is None else head.calibration.points[default],
            gates=tuple(gate for gate in manifest.gates if gate.head in ("", name)),
            degraded=manifest.degraded,
            notices=manifest.notices,
        )

    def promised(self) -> PromisedFigures:
        """What an accuracy is compared with."""
        return PromisedFigures(self.point_name, self.point, self.gates, self.data.dataset)


@dataclass(frozen=True)
class Setting:
    """What was timed, on what, by which rules and which code: everything but what was measured."""

    started_utc: str
    bench_version: str
    code_sha256: str
    rules: Rules
    bundle: BundleCard
    engine: EngineInfo
    machine: Machine
    packages: PackageCard
    images: ImageCard


@dataclass(frozen=True)
class Report:
    """One run. verdict: plain sentences, the first says most. marks: short labels that must stand beside any figure
    quoted from it; warnings: sentences. digest: SHA-256 over all the rest.

    raw: None only in what was read from the summary that a run prints.
    """

    verdict: tuple[str, ...]
    marks: tuple[str, ...]
    warnings: tuple[str, ...]
    setting: Setting
    figures: Figures
    digest: str = ""
    raw: Packed | None = None
    format: str = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise SchemaError(f"format {self.format!r}; this version reads {FORMAT}")

    def document(self) -> dict[str, Any]:
        """The whole JSON document, `format` first, `raw` last."""
        everything = encode(self)
        order = ("format", "verdict", "marks", "warnings", "setting", "figures", "digest", "raw")
        return {key: everything[key] for key in order}

    def summary(self) -> dict[str, Any]:
        """The document without its samples."""
        return {key: value for key, value in self.document().items() if key != "raw"}

    def to_json(self) -> bytes:
        """UTF-8 JSON, indented for people, the samples on one line at the end."""
        head = json.dumps(self.summary(), indent=2, ensure_ascii=False, allow_nan=False)
        raw = json.dumps(encode(self.raw), ensure_ascii=False, allow_nan=False)
        return f'{head[:-2]},\n  "raw": {raw}\n}}\n'.encode()

    def samples(self) -> Raw:
        """The raw samples. Raises: SchemaError where they are damaged or absent."""
        if self.raw is None:
            raise SchemaError("$.raw is absent: this is a summary, not a report")
        return decode(Raw, unpack(self.raw), "raw")

    @classmethod
    def from_json(cls, data: bytes) -> Report:
        """Raises: SchemaError with the path of the first fault."""
        try:
            parsed = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"not JSON ({str(error)[:80]})") from None
        if isinstance(parsed, dict) and isinstance(parsed.get("format"), str) and parsed["format"] != FORMAT:
            raise SchemaError(f"format {parsed['format']!r}; this version reads {FORMAT}")
        return decode(cls, parsed)
