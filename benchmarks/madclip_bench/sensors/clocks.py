"""How fast the processors run: cpufreq, or /proc/cpuinfo's own words; on a Jetson the GPU's clock too."""

from __future__ import annotations

import re
from pathlib import Path

from madclip_bench.sensors.files import read_number, read_text

__all__ = ["Clocks"]


class Clocks:
    """cpu_mhz (mean over the logical CPUs), cpu_mhz_slowest, gpu_mhz."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._cpus = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._gpus = [
            folder / "cur_freq"
            for folder in sorted((root / "sys/class/devfreq").glob("*"))
            if re.search(r"gpu|gv11b|ga10b|gp10b", folder.name)
        ]

    @property
    def absent(self) -> dict[str, str]:
        """See Sensor."""
        return {} if self._processors() else {"processor clock": "neither cpufreq nor /proc/cpuinfo tells it"}

    def read(self) -> dict[str, float]:
        """See Sensor."""
        mhz = self._processors()
        found = {"cpu_mhz": round(sum(mhz) / len(mhz), 1), "cpu_mhz_slowest": round(min(mhz), 1)} if mhz else {}
        for path in self._gpus:
            hertz = read_number(path)
            if hertz is not None:
                found["gpu_mhz"] = round(hertz / 1e6, 1)
        return found

    def _processors(self) -> list[float]:
        kilohertz = [value for path in self._cpus if (value := read_number(path)) is not None]
        if kilohertz:
            return [value / 1e3 for value in kilohertz]
        text = read_text(self._root / "proc/cpuinfo")
        return [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)\s*$", text, re.MULTILINE)]
