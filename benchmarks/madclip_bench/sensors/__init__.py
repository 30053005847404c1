"""What can be read of a machine while it works: one file a kind, each a `read()` that returns numbers by name.

A name says quantity and unit, then what it is of ("temperature_c:cpu-thermal"). Names ending in "_total" are counters
that only grow; all others are readings of the moment. What can't be read is left out, and `absent` says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

__all__ = ["Sensor", "all_sensors", "is_counter"]


class Sensor(Protocol):
    """Reads some of the machine's state."""

    @property
    def absent(self) -> dict[str, str]:
        """Quantity → why it can't be read here; empty where all is well."""
        ...

    def read(self) -> dict[str, float]:
        """The readings of this moment by name; never raises for a reading that is gone."""
        ...


def is_counter(name: str) -> bool:
    """Whether a name stands for a counter."""
    return name.partition(":")[0].endswith("_total")


def all_sensors(pid: int, root: Path = Path("/")) -> Sequence[Sensor]:
    """Every kind, for the process that is timed. root: where proc/ and sys/ lie."""
    from madclip_bench.sensors.clocks import Clocks
    from madclip_bench.sensors.heat import Heat
    from madclip_bench.sensors.jetson import JetsonRails
    from madclip_bench.sensors.load import Load
    from madclip_bench.sensors.nvml import Nvml
    from madclip_bench.sensors.rapl import Rapl

    return (Load(pid, root), Clocks(root), Heat(root), Nvml(pid), JetsonRails(root), Rapl(root))
