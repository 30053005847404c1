"""Who uses the processors: the timed process, the sampler itself, others, a hypervisor. All as counters of seconds.

From /proc/stat (user, nice, system, idle, iowait, irq, softirq, steal; man 5 proc) and /proc/PID/stat (fields 14–17).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from madclip_bench.sensors.files import read_text

__all__ = ["Load"]

_UTIME = 11
"""Fields after the closing bracket of the name: utime is the 14th of all, so the 12th of those."""


class Load:
    """CPU seconds since boot, or since a process began, summed over all logical CPUs."""

    def __init__(self, pid: int, root: Path = Path("/")) -> None:
        """pid: the timed process."""
        self._stat = root / "proc/stat"
        self._own = root / f"proc/{pid}/stat"
        self._cgroup = root / "sys/fs/cgroup/cpu.stat"
        self._memory = root / "proc/meminfo"
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01

    @property
    def absent(self) -> dict[str, str]:
        """See Sensor."""
        return {} if read_text(self._stat) else {"load of other processes": "no /proc/stat on this system"}

    def read(self) -> dict[str, float]:
        """See Sensor."""
        found = {"sampler_s_total": round(time.process_time(), 3), **self._whole_machine(), **self._timed_process()}
        for line in read_text(self._cgroup).splitlines():
            name, _, value = line.partition(" ")
            if name == "throttled_usec" and value.isdigit():
                found["cgroup_throttled_s_total"] = int(value) / 1e6
        return found | self._free_memory()

    def _whole_machine(self) -> dict[str, float]:
        words = read_text(self._stat).partition("\n")[0].split()
        if words[:1] != ["cpu"] or len(words) < 8 or not all(word.isdigit() for word in words[1:]):
            return {}
        ticks = [int(word) for word in words[1:9]] + [0] * (9 - len(words))
        # guest time is already inside user time, so fields 9 and 10 are left alone
        idle, steal = ticks[3] + ticks[4], ticks[7]
        return {
            "cpu_busy_s_total": round((sum(ticks) - idle - steal) * self._tick_s, 3),
            "cpu_all_s_total": round(sum(ticks) * self._tick_s, 3),
            "cpu_steal_s_total": round(steal * self._tick_s, 3),
        }

    def _timed_process(self) -> dict[str, float]:
        fields = read_text(self._own).rpartition(")")[2].split()[_UTIME : _UTIME + 4]
        if len(fields) < 4 or not all(field.isdigit() for field in fields):
            return {}
        return {"timed_s_total": round(sum(map(int, fields)) * self._tick_s, 3)}

    def _free_memory(self) -> dict[str, float]:
        for line in read_text(self._memory).splitlines():
            name, _, value = line.partition(":")
            number = value.strip().removesuffix(" kB")
            if name == "MemAvailable" and number.isdigit():
                return {"memory_available_mb": round(int(number) * 1024 / 1e6, 1)}
        return {}
