"""The few calls of CUDA's runtime library that a native plan needs, through ctypes: no package for six functions.

Never yet run on a GPU.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from madclip_runtime.errors import EngineRefused

__all__ = ["Cuda", "load_cuda"]

_NAMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
_TO_DEVICE, _TO_HOST = 1, 2
_MAJOR, _MINOR = 75, 76  # cudaDevAttrComputeCapability…


class Cuda:
    """One stream, and buffers on the device. Every call that fails raises EngineRefused with CUDA's own words."""

    def __init__(self, library: Any, engine: str) -> None:
        self._library, self._engine = library, engine
        library.cudaGetErrorString.restype = ctypes.c_char_p
        stream = ctypes.c_void_p()
        self._check(library.cudaStreamCreate(ctypes.byref(stream)))
        self._stream = stream

    @property
    def stream(self) -> int:
        """Its handle."""
        return self._stream.value or 0

    def capability(self) -> str:
        """Compute capability of device 0, e.g. "sm89"."""
        parts = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._check(self._library.cudaDeviceGetAttribute(ctypes.byref(value), attribute, 0))
            parts.append(value.value)
        return f"sm{parts[0]}{parts[1]}"

    def allocate(self, count: int) -> int:
        """The address of `count` bytes on the device; kept as long as the process lives."""
        address = ctypes.c_void_p()
        self._check(self._library.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(count)))
        return address.value or 0

    def upload(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy to the device. array: C-contiguous, and kept until `wait`."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE)

    def download(self, address: int, array: npt.NDArray[np.float32]) -> None:
        """Queue a copy from the device into `array`, which is filled after `wait`."""
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST)

    def wait(self) -> None:
        """Until all that was queued is done."""
        self._check(self._library.cudaStreamSynchronize(self._stream))

    def _copy(self, to: int, source: int, count: int, kind: int) -> None:
        pointers = ctypes.c_void_p(to), ctypes.c_void_p(source)
        self._check(self._library.cudaMemcpyAsync(*pointers, ctypes.c_size_t(count), ctypes.c_int(kind), self._stream))

    def _check(self, code: int) -> None:
        if code:
            words = self._library.cudaGetErrorString(code) or b""
            raise EngineRefused(self._engine, f"CUDA error {code}: {words.decode(errors='replace')}", "see --doctor")


def load_cuda(engine: str) -> Cuda:
    """Raises: EngineRefused where the library, a driver or a GPU is missing."""
    for name in _NAMES:
        try:
            return Cuda(ctypes.CDLL(name), engine)
        except OSError:
            continue
    raise EngineRefused(engine, f"none of {', '.join(_NAMES)} is on this machine", "install the CUDA runtime library")
