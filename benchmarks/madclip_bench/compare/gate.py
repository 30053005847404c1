"""`--fail-if`: a rule that a later report must not meet, so that a build or a purchase can be stopped by it.

    p99>+10%      more than a tenth above the baseline        p99>50       above 50 ms
    offline<-5%   more than a twentieth below the baseline    image_auroc<0.95

A rule that can't be judged, because a report lacks the figure, fails: silence is no pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from madclip_bench.compare.metrics import METRICS, Metric
from madclip_bench.report import Report
from madclip_runtime.errors import UsageError

__all__ = ["Rule", "Verdict", "judge", "parse_rule"]

_RULE = re.compile(r"\s*([a-z_0-9.]+)\s*([<>])\s*([+-]?)(\d+(?:\.\d+)?)\s*(%?)\s*")


@dataclass(frozen=True)
class Rule:
    """text: as it was written. limit: a factor on the baseline's value where relative, else in the metric's unit."""

    text: str
    metric: Metric
    above: bool
    limit: float
    relative: bool


@dataclass(frozen=True)
class Verdict:
    """One rule on one report. failed: the rule is met, or can't be judged."""

    rule: str
    report: str
    failed: bool
    why: str


def parse_rule(text: str) -> Rule:
    """Raises: UsageError."""
    found = _RULE.fullmatch(text)
    metric = next((one for one in METRICS if found and one.name == found.group(1)), None)
    if found is None or metric is None or bool(found.group(3)) != bool(found.group(5)):
        names = ", ".join(one.name for one in METRICS)
        raise UsageError(f"--fail-if {text!r}", "is no rule", f'write "p99>+10%" or "p99>50"; figures: {names}')
    number = float(found.group(4)) * (-1 if found.group(3) == "-" else 1)
    relative = bool(found.group(5))
    return Rule(text, metric, found.group(2) == ">", 1 + number / 100 if relative else number, relative)


def judge(rule: Rule, baseline: Report, report: Report, name: str) -> Verdict:
    """One later report against the rule."""
    value, base = rule.metric.read(report), rule.metric.read(baseline)
    if value is None or (rule.relative and base is None):
        return Verdict(rule.text, name, True, f"{rule.metric.name} is missing, so this can't be judged")
    limit = rule.limit * (base or 0.0) if rule.relative else rule.limit
    met = value > limit if rule.above else value < limit
    show = rule.metric.show
    side = "above" if rule.above else "below"
    words = f"{rule.metric.name} {show(value)} is {'' if met else 'not '}{side} {show(limit)}"
    return Verdict(rule.text, name, met, words)
