"""What is served: one bundle on one engine, with a detector a head; and its card, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from madclip_runtime import __version__
from madclip_runtime.detector import Detector
from madclip_runtime.errors import RequestRefused
from madclip_runtime.schema import encode
from madclip_runtime.serve.desk import Work

__all__ = ["Model"]


class Model:
    """heads: name → the detector that answers for it alone; all share one engine."""

    def __init__(self, detector: Detector, heads: dict[str, Detector]) -> None:
        self.bundle, self.engine = detector.bundle, detector.engine
        self.name = detector.bundle.manifest.model_id
        self.version = detector.bundle.digest[:12]
        self.size = detector.bundle.manifest.input.size
        self.heads = heads

    def detector(self, head: str | None) -> Detector:
        """By the head's name, which only several heads need. Raises: RequestRefused."""
        names = list(self.heads)
        if head is None and len(names) == 1:
            head = names[0]
        if head is None or head not in self.heads:
            why = "is needed, since there are several" if head is None else "is none of this service"
            raise RequestRefused("malformed", "the parameter head", why, f"?head={' | '.join(names)}")
        return self.heads[head]

    def detection(self, detector: Detector, prepared: Any) -> Work:
        """One frame's work for the engine; its answer is a Result."""

        def run(batch: Sequence[Any]) -> list[Any]:
            return [results[0] for results in detector.compute(batch)]

        return Work(("detect", detector.head), run, prepared)

    def card(self) -> dict[str, Any]:
        """What the viewer shows and a person may want to know: the manifest but for its files, and what runs it."""
        manifest = encode(self.bundle.manifest)
        del manifest["files"]
        manifest["heads"] = {name: manifest["heads"][name] for name in self.heads}
        points = {
            name: {"threshold": d.threshold, "operating_point": d.operating_point} for name, d in self.heads.items()
        }
        return {
            **manifest,
            "digest": self.bundle.digest,
            "engine": asdict(self.engine.info),
            "deciding": points,
            "version": __version__,
        }
