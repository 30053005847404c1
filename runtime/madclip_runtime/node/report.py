"""The structured report, TID 1500: the series' highest score, the threshold, the decision, which model.

Then each further image that is not normal. Numbers of a model, never a finding of a person: preliminary, unverified.
"""

from __future__ import annotations

from typing import Any

from madclip_runtime import __version__
from madclip_runtime.node.codes import SCHEME, SCHEME_NAME, code
from madclip_runtime.node.identity import uid_of
from madclip_runtime.node.maker import MODEL_NAME, NOTICE, Maker
from madclip_runtime.node.rules import MANUFACTURER

__all__ = ["report"]

_MOST_IMAGES = 32
"""Those with the highest scores; the report says how many were scored."""


def report(maker: Maker) -> Any:
    """A Comprehensive SR."""
    from highdicom.sr import ComprehensiveSR, MeasurementReport

    content = MeasurementReport(
        observation_context=_observed_by(maker),
        procedure_reported=code("imaging-procedure"),
        imaging_measurements=[_group(maker, place, number) for number, place in enumerate(_places(maker))],
        title=code("report"),
    )
    made = ComprehensiveSR(
        evidence=maker.sources,
        content=content[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        **maker.equipment,
        **maker.common("sr"),
    )
    made.SeriesDescription = "madclip report, research use only"
    _name_scheme(made)
    return made


def _places(maker: Maker) -> list[int]:
    """The highest first, then what is not normal, by score."""
    images = maker.findings.images
    order = sorted(range(len(images)), key=lambda place: (-images[place].score, place))
    told = [place for place in order[1:] if images[place].decision in ("abnormal", "borderline")]
    return [order[0], *told[: _MOST_IMAGES - 1]]


def _observed_by(maker: Maker) -> Any:
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext

    bundle = maker.findings.detector.bundle
    device = DeviceObserverIdentifyingAttributes(
        uid=uid_of(bundle.digest, "device"),
        name=f"{MODEL_NAME}: {NOTICE}"[:64],
        manufacturer_name=MANUFACTURER,
        model_name=maker.model,
        serial_number=bundle.digest[:16],
    )
    observer = ObserverContext(observer_type=code("device"), observer_identifying_attributes=device)
    return ObservationContext(observer_device_context=observer)


def _group(maker: Maker, place: int, number: int) -> Any:
    from highdicom.sr import (
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    image, source = maker.findings.images[place], maker.sources[place]
    which = "highest score of the series" if number == 0 else f"image {place + 1}"
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=uid_of(maker.key, "group", place), identifier=f"madclip, {which}"),
        finding_type=code("anomaly"),
        algorithm_id=_algorithm(maker),
        measurements=_numbers(maker, image.score),
        qualitative_evaluations=[QualitativeEvaluation(name=code("decision"), value=code(image.decision))],
        source_images=[SourceImageForMeasurementGroup.from_source_image(source)],
    )


def _numbers(maker: Maker, score: float) -> list[Any]:
    from highdicom.sr import Measurement

    threshold = maker.findings.detector.threshold
    made = [Measurement(name=code("score"), value=round(score, 6), unit=code("no-units"))]
    if threshold is not None:
        made.append(Measurement(name=code("threshold"), value=round(threshold, 6), unit=code("no-units")))
    return made


def _algorithm(maker: Maker) -> Any:
    from highdicom.sr import AlgorithmIdentification

    detector = maker.findings.detector
    told = {
        "bundle": detector.bundle.manifest.model_id,
        "manifest SHA-256": detector.bundle.digest,
        "head": detector.head,
        "operating point": detector.operating_point or "none",
        "images scored": str(len(maker.sources)),
        "notice": "; ".join(detector.bundle.manifest.notices),
    }
    return AlgorithmIdentification(
        name="MadCLIP", version=__version__, parameters=[f"{name}: {value}" for name, value in told.items()]
    )


def _name_scheme(made: Any) -> None:
    from pydicom.dataset import Dataset

    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeName = SCHEME, SCHEME_NAME
    made.CodingSchemeIdentificationSequence = [scheme]
