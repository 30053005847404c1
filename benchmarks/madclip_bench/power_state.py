"""How the machine is set: governor, power mode, mains or battery. Read, never changed, and no tool is run for it.

A Jetson's power mode: /var/lib/nvpmodel/status names the number, /etc/nvpmodel.conf what it is called.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from madclip_bench.sensors.files import read_number, read_text

__all__ = ["PowerState", "read_power_state"]

NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class PowerState:
    """Settings that move latencies, "not measured" where they can't be read.

    governor, driver: of cpufreq. preference: of energy against performance. mode: a Jetson's power mode, or the
    firmware's platform profile. source: "mains", "battery". boost: "on", "off". cpu_max_mhz: the highest clock allowed.
    """

    governor: str
    driver: str
    preference: str
    mode: str
    source: str
    boost: str
    cpu_max_mhz: float | None


def read_power_state(root: Path = Path("/")) -> PowerState:
    """root: where proc/, sys/, etc/ and var/ lie."""
    cpufreq = root / "sys/devices/system/cpu/cpu0/cpufreq"
    highest = read_number(cpufreq / "scaling_max_freq")
    return PowerState(
        governor=_all_of(root, "scaling_governor"),
        driver=read_text(cpufreq / "scaling_driver") or NOT_MEASURED,
        preference=read_text(cpufreq / "energy_performance_preference") or NOT_MEASURED,
        mode=_jetson_mode(root) or read_text(root / "sys/firmware/acpi/platform_profile") or NOT_MEASURED,
        source=_source(root),
        boost=_boost(root),
        cpu_max_mhz=None if highest is None else round(highest / 1e3, 1),
    )


def _all_of(root: Path, name: str) -> str:
    """One word where all CPUs agree, else all words."""
    files = (root / "sys/devices/system/cpu").glob(f"cpu[0-9]*/cpufreq/{name}")
    words = sorted({read_text(path) for path in files} - {""})
    return ", ".join(words) or NOT_MEASURED


def _jetson_mode(root: Path) -> str:
    status = re.search(r"pmode:0*(\d+)", read_text(root / "var/lib/nvpmodel/status"))
    if status is None:
        return ""
    for line in read_text(root / "etc/nvpmodel.conf").splitlines():
        found = re.match(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", line.strip())
        if found and int(found.group(1)) == int(status.group(1)):
            return f"{found.group(2)} ({found.group(1)})"
    return f"nvpmodel {status.group(1)}"


def _source(root: Path) -> str:
    """Mains where an adapter is online; battery where there is one and no adapter is; a desktop shows neither."""
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    kinds = {folder: read_text(folder / "type").lower() for folder in supplies}
    adapters = [folder for folder, kind in kinds.items() if kind in ("mains", "usb")]
    if any(read_text(folder / "online") == "1" for folder in adapters):
        return "mains"
    return "battery" if "battery" in kinds.values() else NOT_MEASURED


def _boost(root: Path) -> str:
    words = {"0": "off", "1": "on"}
    found = words.get(read_text(root / "sys/devices/system/cpu/cpufreq/boost"))
    if found is None:  # Intel's driver says it the other way round
        no_turbo = words.get(read_text(root / "sys/devices/system/cpu/intel_pstate/no_turbo"))
        found = {"on": "off", "off": "on"}.get(no_turbo or "")
    return found or NOT_MEASURED
