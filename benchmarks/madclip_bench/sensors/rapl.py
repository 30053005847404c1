"""Energy of Intel and AMD processors by RAPL: /sys/class/powercap (kernel document power/powercap).

Counted: packages, and memory ("dram") where it has its own zone. Not counted: core and uncore (inside the package) and
psys (the platform, which holds the package again). Most systems let only root read it: CVE-2020-8694.
"""

from __future__ import annotations

from pathlib import Path

from madclip_bench.sensors.files import read_number, read_text

__all__ = ["Rapl"]


class Rapl:
    """energy_j_total:ZONE, growing from the first reading on; a counter that wrapped round is carried on."""

    def __init__(self, root: Path = Path("/")) -> None:
        folders = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        self._zones = {name: folder for folder in folders if (name := _zone_name(folder))}
        self._last_uj: dict[str, float] = {}
        self._sum_uj: dict[str, float] = {}

    @property
    def absent(self) -> dict[str, str]:
        """See Sensor."""
        if not self._zones:
            return {"energy of the processor (RAPL)": "no /sys/class/powercap/intel-rapl on this system"}
        if all(read_number(folder / "energy_uj") is None for folder in self._zones.values()):
            return {"energy of the processor (RAPL)": "its counters can be read by root only"}
        return {}

    def read(self) -> dict[str, float]:
        """See Sensor. A counter may wrap once between two readings: at 200 W and 2^32 × 15 µJ that takes minutes."""
        found = {}
        for name, folder in self._zones.items():
            now = read_number(folder / "energy_uj")
            if now is None:
                continue
            step = now - self._last_uj.get(name, now)
            if step < 0:
                step += read_number(folder / "max_energy_range_uj") or 0.0
            self._last_uj[name] = now
            self._sum_uj[name] = self._sum_uj.get(name, 0.0) + max(step, 0.0)
            found[f"energy_j_total:{name}"] = round(self._sum_uj[name] / 1e6, 6)
        return found


def _zone_name(folder: Path) -> str:
    """ "package-0", or "package-0 dram" for a memory zone below it; "" for a zone that is not counted."""
    name = read_text(folder / "name")
    if name.startswith("package"):
        return name
    parent = folder.parent / folder.name.rpartition(":")[0]
    return f"{read_text(parent / 'name')} dram" if name == "dram" else ""
