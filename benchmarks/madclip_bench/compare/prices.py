"""What 1,000 images cost on a box: its price and its electricity over its years, over the images of those years.

The price file (JSON), every key required:
    {"currency": "EUR", "tariff_per_kwh": 0.32, "years": 5, "images_per_day": 20000,
     "boxes": {"small": {"purchase": 900, "watts": 25}}}
watts: what the box draws on average, day and night. Boxes are named as the reports are (`--names`).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from madclip_bench.report import Report
from madclip_runtime.errors import InputRefused
from madclip_runtime.schema import SchemaError, decode

__all__ = ["Cost", "PriceList", "cost_of", "read_prices"]

_HOURS_A_YEAR, _DAYS_A_YEAR, _SECONDS_A_DAY = 8766.0, 365.25, 86400.0


@dataclass(frozen=True)
class Box:
    """purchase: in the list's currency. watts: average draw."""

    purchase: float
    watts: float


@dataclass(frozen=True)
class PriceList:
    """See the module."""

    currency: str
    tariff_per_kwh: float
    years: float
    images_per_day: float
    boxes: dict[str, Box]

    def __post_init__(self) -> None:
        numbers = [self.tariff_per_kwh, *(n for box in self.boxes.values() for n in (box.purchase, box.watts))]
        if self.years <= 0 or self.images_per_day <= 0 or any(n < 0 or not math.isfinite(n) for n in numbers):
            raise ValueError("years and images_per_day must be above 0, prices and watts not negative")


@dataclass(frozen=True)
class Cost:
    """Of one box. per_1000_images: None where the box can't do the day's images, and `note` says what it can."""

    purchase: float
    electricity: float
    per_1000_images: float | None
    note: str = ""


def read_prices(name: str) -> PriceList:
    """Raises: InputRefused with the path of the first fault."""
    try:
        return decode(PriceList, json.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise InputRefused(name, error.strerror or str(error), "name a price file") from None
    except (SchemaError, ValueError) as error:
        raise InputRefused(name, str(error), "its keys are in docs/report.md") from None


def cost_of(report: Report, box: Box, prices: PriceList) -> Cost:
    """By the box's own throughput: offline where it was run, else one image at a time."""
    electricity = box.watts / 1e3 * _HOURS_A_YEAR * prices.years * prices.tariff_per_kwh
    offline = report.figures.offline
    a_day = _SECONDS_A_DAY * (report.figures.single.images_per_s if offline is None else offline.images_per_s)
    if a_day < prices.images_per_day:
        note = f"can do {a_day:,.0f} of the {prices.images_per_day:,.0f} images a day"
        return Cost(box.purchase, round(electricity, 2), None, note)
    images = prices.images_per_day * _DAYS_A_YEAR * prices.years
    return Cost(box.purchase, round(electricity, 2), round(1e3 * (box.purchase + electricity) / images, 4))
