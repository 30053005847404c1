"""A report from its setting and raw samples: a pure function, which `verify` calls again."""

from __future__ import annotations

from dataclasses import replace

from madclip_bench.figures import Figures
from madclip_bench.integrity import digest_of, pack, unpack
from madclip_bench.raw import Raw
from madclip_bench.report import Report, Setting
from madclip_bench.verdict import marks_of, verdict_of, warnings_of
from madclip_runtime.schema import decode, encode

__all__ = ["build"]


def build(setting: Setting, raw: Raw) -> Report:
    """The whole report of one run, sealed with its digest. Figures come from the samples as they were packed."""
    packed = pack(encode(raw))
    figures = Figures.of(decode(Raw, unpack(packed), "raw"), setting.rules, setting.bundle.promised())
    draft = Report(
        verdict=(),
        marks=marks_of(setting, figures),
        warnings=warnings_of(setting, figures),
        setting=setting,
        figures=figures,
        raw=packed,
    )
    judged = replace(draft, verdict=verdict_of(draft))
    return replace(judged, digest=digest_of(judged.document()))
