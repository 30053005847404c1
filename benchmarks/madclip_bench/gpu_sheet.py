"""The GPU part of the machine sheet, by NVML; on a Jetson, whose GPU is no card, by what the board says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madclip_bench.sensors.files import read_text
from madclip_bench.sensors.nvml import open_nvml, value_of

__all__ = ["GpuCard", "GpuSheet", "read_gpus"]

_SM = 1  # nvmlClockType_t


@dataclass(frozen=True)
class GpuCard:
    """One card, as it is set. None where the driver does not say."""

    name: str
    memory_bytes: int | None
    compute_capability: str | None
    power_limit_w: float | None
    default_power_limit_w: float | None
    sm_max_mhz: float | None
    persistence: bool | None
    ecc: bool | None
    mig: bool | None


@dataclass(frozen=True)
class GpuSheet:
    """cards: what NVML lists. why_none: where that is nothing. jetson: the board's release line, "" elsewhere."""

    cards: tuple[GpuCard, ...]
    driver: str | None
    cuda_driver: str | None
    jetson: str
    why_none: str


def read_gpus(root: Path = Path("/")) -> GpuSheet:
    """root: where etc/ lies, for a Jetson's release file."""
    release = read_text(root / "etc/nv_tegra_release").partition("\n")[0].lstrip("# ")
    nvml, why_not = open_nvml()
    if nvml is None:
        return GpuSheet((), None, None, release, why_not)
    count = value_of(nvml.nvmlDeviceGetCount) or 0
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
    driver, cuda = value_of(nvml.nvmlSystemGetDriverVersion), value_of(nvml.nvmlSystemGetCudaDriverVersion_v2)
    return GpuSheet(
        cards=tuple(_card(nvml, handle) for handle in handles),
        driver=_words(driver),
        cuda_driver=None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        jetson=release,
        why_none="" if handles else "NVML sees no card",
    )


def _card(nvml: Any, handle: Any) -> GpuCard:
    memory = value_of(nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = value_of(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return GpuCard(
        name=_words(value_of(nvml.nvmlDeviceGetName, handle)) or "an unnamed card",
        memory_bytes=None if memory is None else int(memory.total),
        compute_capability=None if capability is None else ".".join(map(str, capability)),
        power_limit_w=_watts(value_of(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)),
        default_power_limit_w=_watts(value_of(nvml.nvmlDeviceGetPowerManagementDefaultLimit, handle)),
        sm_max_mhz=_number(value_of(nvml.nvmlDeviceGetMaxClockInfo, handle, _SM)),
        persistence=_switch(value_of(nvml.nvmlDeviceGetPersistenceMode, handle)),
        ecc=_switch(value_of(nvml.nvmlDeviceGetEccMode, handle)),
        mig=_switch(value_of(nvml.nvmlDeviceGetMigMode, handle)),
    )


def _words(value: Any) -> str | None:
    """Older bindings answer bytes."""
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _watts(milliwatts: Any) -> float | None:
    return None if milliwatts is None else round(milliwatts / 1e3, 1)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _switch(value: Any) -> bool | None:
    """ECC and MIG answer [now, after the next reset]."""
    now = value[0] if isinstance(value, (list, tuple)) else value
    return None if now is None else bool(now)
