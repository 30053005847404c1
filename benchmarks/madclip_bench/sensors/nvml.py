"""NVIDIA GPUs by NVML, through NVIDIA's own binding (extra [nvml]: nvidia-ml-py). Energy is the board's own counter.

Not met hardware yet: tested against a stand-in library that answers with recorded readings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

__all__ = ["POWER_CAP", "THROTTLE_REASONS", "Nvml", "open_nvml", "value_of"]

THROTTLE_REASONS = {
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "software thermal slowdown",
    0x0000000000000040: "hardware thermal slowdown",
    0x0000000000000080: "hardware power brake",
}
"""Bits of nvmlDeviceGetCurrentClocksEventReasons that mean the card runs slower than it could (nvml.h)."""
POWER_CAP = 0x0000000000000004
_SM, _MEMORY = 1, 2  # nvmlClockType_t
_TEMPERATURE_GPU = 0
_INSTALL = 'pip install "madclip-bench[nvml]"'


def open_nvml() -> tuple[Any, str]:
    """The binding, initialised, and ""; or None and why not."""
    try:
        import pynvml
    except ImportError:
        return None, f"NVIDIA's binding is not installed ({_INSTALL})"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    return pynvml, ""


def value_of(call: Callable[..., Any], *arguments: Any) -> Any:
    """What NVML answers, or None: every call may be "not supported" on some card."""
    with contextlib.suppress(Exception):  # NVMLError; AttributeError inside an old driver's library
        return call(*arguments)
    return None


class Nvml:
    """Per card i: energy_j_total:gpuI, power_w:gpuI (only where there is no counter), temperature_c, gpu_sm_mhz,
    gpu_memory_mhz, gpu_throttle_reasons (bits), gpu_memory_mb, gpu_other_processes.
    """

    def __init__(self, pid: int) -> None:
        """pid: the timed process, which is not one of the others."""
        self._pid = pid
        self._nvml, self._why_not = open_nvml()
        count = value_of(self._nvml.nvmlDeviceGetCount) or 0 if self._nvml else 0
        self._cards = {i: self._nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)}

    @property
    def absent(self) -> dict[str, str]:
        """See Sensor."""
        if self._cards:
            return {}
        return {"GPU clocks, temperature, power": self._why_not or "NVML sees no card"}

    def read(self) -> dict[str, float]:
        """See Sensor."""
        found: dict[str, float] = {}
        for i, card in self._cards.items():
            readings = {**self._energy(card), **self._state(card)}
            found |= {f"{name}:gpu{i}": float(value) for name, value in readings.items() if value is not None}
        return found

    def _energy(self, card: Any) -> dict[str, float | None]:
        millijoules = value_of(self._nvml.nvmlDeviceGetTotalEnergyConsumption, card)
        if millijoules is not None:
            return {"energy_j_total": millijoules / 1e3}
        milliwatts = value_of(self._nvml.nvmlDeviceGetPowerUsage, card)  # cards before Volta have no counter
        return {"power_w": None if milliwatts is None else milliwatts / 1e3}

    def _state(self, card: Any) -> dict[str, float | None]:
        nvml = self._nvml
        memory = value_of(nvml.nvmlDeviceGetMemoryInfo, card)
        processes = value_of(nvml.nvmlDeviceGetComputeRunningProcesses, card)
        return {
            "temperature_c": value_of(nvml.nvmlDeviceGetTemperature, card, _TEMPERATURE_GPU),
            "gpu_sm_mhz": value_of(nvml.nvmlDeviceGetClockInfo, card, _SM),
            "gpu_memory_mhz": value_of(nvml.nvmlDeviceGetClockInfo, card, _MEMORY),
            "gpu_throttle_reasons": _throttle_reasons(nvml, card),
            "gpu_memory_mb": None if memory is None else round(memory.used / 1e6, 1),
            "gpu_other_processes": None if processes is None else sum(one.pid != self._pid for one in processes),
        }


def _throttle_reasons(nvml: Any, card: Any) -> Any:
    """The call was renamed in driver 535; the old name means the same, and older libraries have only that."""
    names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    answers = (value_of(getattr(nvml, name), card) for name in names if hasattr(nvml, name))
    return next((answer for answer in answers if answer is not None), None)
