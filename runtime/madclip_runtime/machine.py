"""What this machine is, as far as engines and caches depend on it; everything read, nothing guessed.

What can't be read is "" or None. No host name, no user name.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from pathlib import Path

__all__ = ["cpu_features", "cpu_key", "cpu_name", "gpus", "memory_mb", "power_mode"]

_WAIT_S = 5


def cpu_name() -> str:
    """The processor's own name, e.g. "AMD EPYC 9R14"; else what Python knows of it."""
    fields = _cpu_fields()
    return fields.get("model name") or fields.get("cpu model") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """Its instruction sets, sorted; empty where the system doesn't tell."""
    fields = _cpu_fields()
    return tuple(sorted((fields.get("flags") or fields.get("features") or "").split()))


def cpu_key() -> str:
    """Name and instruction sets in a few words, for a cache: another CPU, or one told otherwise, gets another text."""
    features = " ".join(cpu_features())
    return f"{cpu_name()} ({platform.machine()}, features {hashlib.sha256(features.encode()).hexdigest()[:8]})"


def gpus() -> tuple[str, ...]:
    """One text a GPU: "name, driver version, memory", by nvidia-smi; on a Jetson its model and release."""
    board = _text("/proc/device-tree/model").strip("\0 \n")
    if "NVIDIA" in board and "Jetson" in board:
        return (f"{board}, {_text('/etc/nv_tegra_release').partition(chr(10))[0][:60]}",)
    told = _ask("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    return tuple(line.strip() for line in told.splitlines() if line.strip())


def memory_mb() -> tuple[int, int] | None:
    """All memory, and what is available; None where the system doesn't tell."""
    fields = dict(line.split(":", 1) for line in _text("/proc/meminfo").splitlines() if ":" in line)
    try:
        total, free = (int(fields[name].split()[0]) // 1024 for name in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        return None
    return total, free


def power_mode() -> str:
    """A Jetson's nvpmodel, else the governor of the first core; "" where neither is there."""
    told = _ask("nvpmodel", "-q").replace("\n", " ").strip()
    return told or _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()


def _cpu_fields() -> dict[str, str]:
    """Of the first processor in /proc/cpuinfo, keys in lower case."""
    first = _text("/proc/cpuinfo").partition("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip().lower(): value.strip() for key, value in pairs}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _ask(command: str, *arguments: str) -> str:
    where = shutil.which(command)
    if where is None:
        return ""
    try:
        return subprocess.run([where, *arguments], capture_output=True, text=True, timeout=_WAIT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
