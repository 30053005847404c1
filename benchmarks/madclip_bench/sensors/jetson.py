"""Power of a Jetson module by its INA3221 monitors (Jetson Linux Developer Guide, Power Rails; hwmon/ina3221).

One rail feeds the whole module (VDD_IN on Orin NX, Orin Nano and Xavier NX, POM_5V_IN on Nano): it alone is counted, as
the others lie behind it. AGX Orin has no such rail; its three of the first monitor don't overlap and make up the whole.
Boards with other rails: not measured.
"""

from __future__ import annotations

from pathlib import Path

from madclip_bench.sensors.files import read_number, read_text

__all__ = ["JetsonRails"]

_INPUTS = ("VDD_IN", "VIN_IN", "POM_5V_IN")
_AGX_ORIN = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")


class JetsonRails:
    """power_w:RAIL of the input rail, or power_w:RAIL+RAIL+RAIL, the sum of the three that are all of an AGX Orin."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._found = _rails(root)
        self._is_tegra = (root / "etc/nv_tegra_release").exists() or bool(self._found)
        inputs = [rail for rail in _INPUTS if rail in self._found][:1]
        whole = all(rail in self._found for rail in _AGX_ORIN)
        self._counted = inputs or (list(_AGX_ORIN) if whole else [])

    @property
    def absent(self) -> dict[str, str]:
        """See Sensor. Machines that are no Jetson miss nothing here."""
        if self._counted or not self._is_tegra:
            return {}
        named = ", ".join(sorted(self._found)) or "none"
        return {"power of the module": f"no input rail among those that can be read ({named}); a sum would count twice"}

    def read(self) -> dict[str, float]:
        """See Sensor. Either all that is counted, or nothing."""
        products = [self._milliwatts(rail) for rail in self._counted]
        known = [value for value in products if value is not None]
        if not known or len(known) < len(products):
            return {}
        return {f"power_w:{'+'.join(self._counted)}": round(sum(known) / 1e3, 4)}

    def _milliwatts(self, rail: str) -> float | None:
        millivolts, milliamperes = (read_number(path) for path in self._found[rail])
        return None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e3


def _rails(root: Path) -> dict[str, tuple[Path, Path]]:
    """Rail's label → the files of its voltage (mV) and current (mA)."""
    found = {}
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        for label in sorted(folder.glob("in[123]_label")):
            channel = label.name[2]
            files = (folder / f"in{channel}_input", folder / f"curr{channel}_input")
            if read_text(label) and all(path.exists() for path in files):
                found[read_text(label)] = files
    return found
