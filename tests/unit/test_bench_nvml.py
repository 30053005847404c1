"""NVML through NVIDIA's own binding, on a stand-in for libnvidia-ml.so.1 that answers with recorded readings.

The stand-in is compiled here from a few lines of C after nvml.h's documentation, so the binding's own calls, structures
and error codes are exercised. No card has been met: see docs/report.md.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from madclip_bench.gpu_sheet import read_gpus
from madclip_bench.sensors import nvml as module
from madclip_bench.sensors.nvml import Nvml

STAND_IN = r"""
#include <string.h>
typedef int R; typedef void *D;
static int card; static unsigned long long energy = 1000000;
typedef struct { unsigned long long total, free, used; } M;
R nvmlInitWithFlags(unsigned f) { return 0; } R nvmlInit_v2(void) { return 0; } R nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(R r) { return r == 3 ? "Not Supported" : "Unknown Error"; }
R nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
R nvmlDeviceGetHandleByIndex_v2(unsigned i, D *d) { *d = &card; return 0; }
R nvmlDeviceGetName(D d, char *s, unsigned n) { strncpy(s, "Test Card T4", n); return 0; }
R nvmlSystemGetDriverVersion(char *s, unsigned n) { strncpy(s, "550.54.15", n); return 0; }
R nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 12040; return 0; }
R nvmlDeviceGetMemoryInfo(D d, M *m) { m->total = 16106127360ULL; m->used = 1234000000ULL; m->free = 0; return 0; }
R nvmlDeviceGetTotalEnergyConsumption(D d, unsigned long long *mj) { *mj = (energy += 7000); return 0; }
R nvmlDeviceGetTemperature(D d, int sensor, unsigned *c) { *c = 61; return sensor == 0 ? 0 : 3; }
R nvmlDeviceGetClockInfo(D d, int kind, unsigned *mhz) { *mhz = kind == 1 ? 1590 : 5000; return 0; }
R nvmlDeviceGetMaxClockInfo(D d, int kind, unsigned *mhz) { *mhz = kind == 1 ? 1590 : 0; return kind == 1 ? 0 : 3; }
R nvmlDeviceGetCurrentClocksThrottleReasons(D d, unsigned long long *bits) { *bits = 0x24; return 0; }
R nvmlDeviceGetEnforcedPowerLimit(D d, unsigned *mw) { *mw = 70000; return 0; }
R nvmlDeviceGetPowerManagementDefaultLimit(D d, unsigned *mw) { *mw = 70000; return 0; }
R nvmlDeviceGetPersistenceMode(D d, int *m) { *m = 1; return 0; }
R nvmlDeviceGetEccMode(D d, int *now, int *then) { *now = 1; *then = 0; return 0; }
R nvmlDeviceGetMigMode(D d, unsigned *now, unsigned *then) { return 3; }
R nvmlDeviceGetCudaComputeCapability(D d, int *a, int *b) { *a = 7; *b = 5; return 0; }
R nvmlDeviceGetComputeRunningProcesses_v3(D d, unsigned *n, void *p) { *n = 0; return 0; }
"""

ASK = """
import dataclasses, json
from madclip_bench.gpu_sheet import read_gpus
from madclip_bench.sensors.nvml import Nvml
card = Nvml(pid=1)
print(json.dumps([card.absent, card.read(), card.read(), dataclasses.asdict(read_gpus())]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the sensor and the sheet say of the stand-in."""
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed: the NVML binding was NOT exercised")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the NVML binding was NOT exercised")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(STAND_IN)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", str(library), str(folder / "nvml.c")], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_readings_of_a_card_come_through_the_binding(answers: Any) -> None:
    absent, first, second, _ = answers
    assert absent == {}
    assert first["temperature_c:gpu0"] == 61 and first["gpu_sm_mhz:gpu0"] == 1590
    assert first["gpu_memory_mhz:gpu0"] == 5000 and first["gpu_memory_mb:gpu0"] == 1234
    assert second["energy_j_total:gpu0"] - first["energy_j_total:gpu0"] == pytest.approx(7.0)
    assert first["gpu_throttle_reasons:gpu0"] == 0x24  # by the old name, the new one is not in this driver
    assert "power_w:gpu0" not in first  # the counter serves
    assert first["gpu_other_processes:gpu0"] == 0


def test_the_sheet_of_a_card_comes_through_the_binding(answers: Any) -> None:
    sheet = answers[3]
    assert (sheet["driver"], sheet["cuda_driver"], sheet["why_none"]) == ("550.54.15", "12.4", "")
    (card,) = sheet["cards"]
    assert (card["name"], card["compute_capability"], card["power_limit_w"]) == ("Test Card T4", "7.5", 70.0)
    assert (card["persistence"], card["ecc"], card["mig"]) == (True, True, None)
    assert card["memory_bytes"] == 16106127360


class OldCard:
    """A binding whose card is of before Volta: no energy counter, no reasons, a process of somebody else."""

    NVMLError = RuntimeError

    def nvmlInit(self) -> None:  # noqa: N802
        """Nothing to do."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetPowerUsage(self, card: int) -> int:  # noqa: N802
        return 123_400

    def nvmlDeviceGetComputeRunningProcesses(self, card: int) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=5), SimpleNamespace(pid=6)]

    def __getattr__(self, name: str) -> Any:
        def refuse(*arguments: Any) -> Any:
            raise RuntimeError("Not Supported")

        return refuse


def test_an_old_card_gives_power_instead_of_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", OldCard())
    assert Nvml(pid=5).read() == {"power_w:gpu0": 123.4, "gpu_other_processes:gpu0": 1.0}
    (card,) = read_gpus(Path("/nowhere")).cards
    assert (card.name, card.memory_bytes, card.persistence) == ("an unnamed card", None, None)


def test_a_missing_binding_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Nvml(1).read() == {}
    assert 'pip install "madclip-bench[nvml]"' in Nvml(1).absent["GPU clocks, temperature, power"]
    assert read_gpus().why_none and module.open_nvml()[0] is None


def test_a_driver_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoDriver(OldCard):
        def nvmlInit(self) -> None:  # noqa: N802
            raise RuntimeError("NVML Shared Library Not Found")

    monkeypatch.setitem(sys.modules, "pynvml", NoDriver())
    assert Nvml(1).absent == {"GPU clocks, temperature, power": "NVML: NVML Shared Library Not Found"}
