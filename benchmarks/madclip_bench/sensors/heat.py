"""Temperatures, and whether the machine slowed itself down because of them.

Temperatures: /sys/class/thermal (Jetson: cpu-thermal, gpu-thermal, tj-thermal, …), and of hwmon the chips that speak
for a whole processor (coretemp, k10temp). Throttling: Intel's counters beside each CPU; a Jetson's over-current events;
passive cooling devices that are at work.
"""

from __future__ import annotations

from pathlib import Path

from madclip_bench.sensors.files import read_number, read_text

__all__ = ["Heat"]

_CHIPS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
_WHOLE = ("Package", "Tctl", "Tdie", "temp1")
_IMPOSSIBLE_C = (-40.0, 150.0)
"""Unconnected sensors read −256 °C or 255 °C."""


class Heat:
    """temperature_c:NAME, throttle_events_total, passive_cooling."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._temperatures = _zones(root) | _chips(root)
        self._counters = [
            *(root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"),
            *(root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/package_throttle_count"),
            *(root / "sys/class/hwmon").glob("hwmon*/oc[0-9]*_event_cnt"),
        ]
        self._cooling = [
            folder / "cur_state"
            for folder in sorted((root / "sys/class/thermal").glob("cooling_device*"))
            if "fan" not in read_text(folder / "type").lower()
        ]

    @property
    def absent(self) -> dict[str, str]:
        """See Sensor."""
        missing = {}
        if not self._temperatures:
            missing["temperature"] = "no readable sensor in /sys/class/thermal or /sys/class/hwmon"
        if not self._counters and not self._cooling:
            missing["processor throttling"] = "the kernel shows no throttle counter and no cooling device"
        return missing

    def read(self) -> dict[str, float]:
        """See Sensor."""
        found = {}
        for name, path in self._temperatures.items():
            millidegrees = read_number(path)
            if millidegrees is not None and _IMPOSSIBLE_C[0] < millidegrees / 1e3 < _IMPOSSIBLE_C[1]:
                found[f"temperature_c:{name}"] = round(millidegrees / 1e3, 1)
        counts = [count for path in self._counters if (count := read_number(path)) is not None]
        if counts:
            found["throttle_events_total"] = sum(counts)
        states = [state for path in self._cooling if (state := read_number(path)) is not None]
        if states:
            found["passive_cooling"] = float(sum(state > 0 for state in states))
        return found


def _zones(root: Path) -> dict[str, Path]:
    folders = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return {name: folder / "temp" for folder in folders if (name := read_text(folder / "type"))}


def _chips(root: Path) -> dict[str, Path]:
    found = {}
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        chip = read_text(folder / "name")
        for path in sorted(folder.glob("temp*_input")) if chip in _CHIPS else []:
            label = read_text(folder / path.name.replace("_input", "_label")) or path.name.removesuffix("_input")
            if label.startswith(_WHOLE):
                found[f"{chip} {label}"] = path
    return found
