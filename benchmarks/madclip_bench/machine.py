"""The machine sheet: what a stranger must know to run the same bench on the same box.

Read from /proc and /sys where they are; elsewhere, or where a file can't be read, a text says "not measured" and a
number is None. No host name, no user, no path. What changes during a run is the sampler's.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from madclip_bench.gpu_sheet import GpuSheet, read_gpus
from madclip_bench.power_state import NOT_MEASURED, PowerState, read_power_state

__all__ = ["NOT_MEASURED", "Machine", "load_average", "peak_memory_bytes", "read_machine"]

FEATURES = (
    *("f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""CPU flags, in the kernel's spelling, that decide which matrix kernels an engine can use."""
_PACKAGES = (
    *("numpy", "pillow", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "tensorrt-rtx-cu13-libs"),
    *("nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
    *("madclip-runtime", "madclip-bench"),
)
_CONTAINERS = ("docker", "kubepods", "containerd", "libpod", "lxc")


@dataclass(frozen=True)
class Machine:
    """The box, as seen from inside the process that was timed. Numbers that could not be read are None.

    usable_cpus: logical CPUs this process may run on. cpu_quota: CPUs' worth of time its control group grants.
    load_before, load_after: the system's 1-minute load average, our own run included in the latter.
    """

    cpu: str
    architecture: str
    logical_cpus: int | None
    usable_cpus: int | None
    physical_cores: int | None
    cpu_quota: float | None
    cpu_features: tuple[str, ...]
    memory_bytes: int | None
    os: str
    kernel: str
    container: str
    versions: dict[str, str]
    power: PowerState
    gpus: GpuSheet
    load_before: float | None = None
    load_after: float | None = None

    def with_load(self, before: float | None, after: float | None) -> Machine:
        """The same sheet with the load averages around a run."""
        return replace(self, load_before=before, load_after=after)


def read_machine(root: Path = Path("/")) -> Machine:
    """The sheet of this machine; root: where proc/, sys/ and etc/ lie."""
    cpuinfo = _read(root / "proc/cpuinfo")
    return Machine(
        cpu=_cpu_model(cpuinfo, root),
        architecture=platform.machine() or NOT_MEASURED,
        logical_cpus=os.cpu_count(),
        usable_cpus=_usable_cpus(),
        physical_cores=_physical_cores(cpuinfo),
        cpu_quota=_cpu_quota(root),
        cpu_features=_features(cpuinfo),
        memory_bytes=_kibibytes(_read(root / "proc/meminfo"), "MemTotal"),
        os=_os_name(_read(root / "etc/os-release")),
        kernel=platform.release() or NOT_MEASURED,
        container=_container(root),
        versions=_versions(),
        power=read_power_state(root),
        gpus=read_gpus(root),
    )


def load_average() -> float | None:
    """The 1-minute load average."""
    # Absent on Windows; may fail in a sandbox.
    read: Callable[[], tuple[float, float, float]] | None = getattr(os, "getloadavg", None)
    if read is None:
        return None
    try:
        return round(read()[0], 2)
    except OSError:
        return None


def peak_memory_bytes(root: Path = Path("/")) -> int | None:
    """The largest resident set this process has had.

    Linux's VmHWM first: getrusage there keeps the peak of whatever process started us, a shell or a test runner.
    """
    own = _kibibytes(_read(root / "proc/self/status"), "VmHWM")
    if own is not None:
        return own
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    except OSError:
        return ""


def _field(text: str, name: str) -> str | None:
    """The first `name : value` line's value."""
    match = re.search(rf"^{re.escape(name)}\s*:[ \t]*(\S.*?)\s*$", text, re.MULTILINE)
    return match.group(1) if match else None


def _cpu_model(cpuinfo: str, root: Path) -> str:
    # ARM kernels name no model; there the board's own name says the most.
    named = _field(cpuinfo, "model name") or _read(root / "proc/device-tree/model").strip()
    return named or _field(cpuinfo, "Hardware") or platform.processor() or NOT_MEASURED


def _usable_cpus() -> int | None:
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    if affinity is None:
        return None
    try:
        return len(affinity(0))
    except OSError:
        return None


def _physical_cores(cpuinfo: str) -> int | None:
    """Distinct (package, core) pairs; None where the kernel does not list them."""
    blocks = [block for block in cpuinfo.split("\n\n") if _field(block, "processor") is not None]
    cores = {(_field(block, "physical id"), _field(block, "core id")) for block in blocks}
    return len(cores) if cores and all(None not in core for core in cores) else None


def _cpu_quota(root: Path) -> float | None:
    """Control group v2 says "quota period" or "max period"; v1 keeps two files, quota −1 for none."""
    words = _read(root / "sys/fs/cgroup/cpu.max").split()
    if not words:
        words = [_read(root / f"sys/fs/cgroup/cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    with contextlib.suppress(ValueError, IndexError):
        quota, period = int(words[0]), int(words[1])
        return round(quota / period, 2) if quota > 0 and period > 0 else None
    return None


def _features(cpuinfo: str) -> tuple[str, ...]:
    flags = set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features") or "").split())
    return tuple(feature for feature in FEATURES if feature in flags)


def _kibibytes(text: str, name: str) -> int | None:
    match = re.fullmatch(r"(\d+) kB", _field(text, name) or "")
    return int(match.group(1)) * 1024 if match else None


def _os_name(release: str) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)"?$', release, re.MULTILINE)
    return match.group(1) if match else platform.system() or NOT_MEASURED


def _container(root: Path) -> str:
    """A hint, no proof: a container may hide that it is one."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    groups = _read(root / "proc/1/cgroup")
    if not groups:
        return NOT_MEASURED
    return next((name for name in _CONTAINERS if name in groups), "none seen")


def _versions() -> dict[str, str]:
    found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
