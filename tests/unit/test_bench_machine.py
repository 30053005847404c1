"""The machine sheet on made-up machines, and on this one."""

import os
import sys
from pathlib import Path

import pytest

from madclip_bench import machine
from madclip_bench.gpu_sheet import read_gpus
from madclip_bench.machine import NOT_MEASURED, load_average, peak_memory_bytes, read_machine
from madclip_bench.power_state import read_power_state

INTEL = "".join(
    f"processor\t: {cpu}\nmodel name\t: Intel(R) Xeon(R) Test\nphysical id\t: {cpu // 4}\ncore id\t\t: {cpu % 4 // 2}\n"
    "flags\t\t: fpu sse2 fma avx2 avx512f avx512_vnni amx_int8 amx_tile\n\n"
    for cpu in range(8)
)
ORIN = "processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd asimdhp asimddp\nCPU implementer\t: 0x41\n\n"


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_server_in_a_container(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/cpuinfo": INTEL,
            "proc/meminfo": "MemTotal:       65536000 kB\nMemFree:        1 kB\n",
            "proc/1/cgroup": "0::/kubepods/burstable/pod1\n",
            "proc/self/status": "Name:\tpython\nVmHWM:\t  123456 kB\n",
            "sys/fs/cgroup/cpu.max": "250000 100000\n",
            "etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        },
    )
    sheet = read_machine(root)
    assert (sheet.cpu, sheet.physical_cores, sheet.cpu_quota) == ("Intel(R) Xeon(R) Test", 4, 2.5)
    assert sheet.cpu_features == ("fma", "avx2", "avx512f", "avx512_vnni", "amx_tile", "amx_int8")
    assert (sheet.memory_bytes, sheet.os) == (65536000 * 1024, "Debian GNU/Linux 12 (bookworm)")
    assert sheet.container == "kubepods"
    assert peak_memory_bytes(root) == 123456 * 1024


def test_an_arm_board_is_known_by_its_board_name(tmp_path: Path) -> None:
    root = _write(
        tmp_path,
        {
            "proc/cpuinfo": ORIN,
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
            "proc/1/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
        },
    )
    sheet = read_machine(root)
    assert sheet.cpu == "NVIDIA Jetson Orin Nano"
    assert sheet.cpu_features == ("asimd", "asimdhp", "asimddp")
    assert (sheet.physical_cores, sheet.cpu_quota, sheet.container) == (None, None, "none seen")


def test_an_older_control_group_and_a_docker_file(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        ".dockerenv": "",
    }
    sheet = read_machine(_write(tmp_path, files))
    assert (sheet.cpu_quota, sheet.container) == (1.5, "docker")


def test_what_cannot_be_read_is_said_to_be_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system: no /proc, no affinity, no load average, no getrusage, nothing from platform."""
    for name in ("processor", "machine", "system", "release"):
        monkeypatch.setattr(machine.platform, name, lambda: "")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    monkeypatch.setitem(sys.modules, "resource", None)
    sheet = read_machine(tmp_path)
    assert {sheet.cpu, sheet.architecture, sheet.os, sheet.kernel, sheet.container} == {NOT_MEASURED}
    assert (sheet.memory_bytes, sheet.physical_cores, sheet.usable_cpus, sheet.cpu_features) == (None, None, None, ())
    assert (sheet.power.governor, sheet.power.mode, sheet.power.boost) == (NOT_MEASURED,) * 3
    assert load_average() is None
    assert peak_memory_bytes(tmp_path) is None


def test_garbage_in_proc_does_not_stop_a_run(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_bytes(b"\xff\xfe\0model name:\nprocessor:\nflags\n\n\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: lots kB\n")
    sheet = read_machine(_write(tmp_path, {"sys/fs/cgroup/cpu.max": "soon later"}))
    assert (sheet.memory_bytes, sheet.cpu_quota, sheet.physical_cores) == (None, None, None)


def test_this_machine_names_python_and_numpy() -> None:
    sheet = read_machine()
    assert {"python", "numpy", "pillow", "madclip-runtime", "madclip-bench"} <= sheet.versions.keys()
    peak = peak_memory_bytes()
    assert peak is None or peak > 2**20


def test_how_a_laptop_is_set(tmp_path: Path) -> None:
    cpus = {f"sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor": "powersave\n" for i in range(4)}
    files = cpus | {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "intel_pstate\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "4700000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference": "balance_power\n",
        "sys/devices/system/cpu/intel_pstate/no_turbo": "1\n",
        "sys/firmware/acpi/platform_profile": "low-power\n",
        "sys/class/power_supply/AC/type": "Mains\n",
        "sys/class/power_supply/AC/online": "0\n",
        "sys/class/power_supply/BAT0/type": "Battery\n",
    }
    power = read_power_state(_write(tmp_path, files))
    assert (power.governor, power.driver, power.preference) == ("powersave", "intel_pstate", "balance_power")
    assert (power.mode, power.boost, power.source, power.cpu_max_mhz) == ("low-power", "off", "battery", 4700.0)
    _write(tmp_path, {"sys/class/power_supply/AC/online": "1\n"})
    _write(tmp_path, {"sys/devices/system/cpu/cpu3/cpufreq/scaling_governor": "performance\n"})
    power = read_power_state(tmp_path)
    assert (power.source, power.governor) == ("mains", "performance, powersave")


@pytest.mark.parametrize(
    ("status", "mode"), [("pmode:0002", "15W (2)"), ("pmode:0000", "MAXN (0)"), ("pmode:0007", "nvpmodel 7")]
)
def test_a_jetsons_power_mode_has_its_name(tmp_path: Path, status: str, mode: str) -> None:
    config = (
        "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n"
        "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=15W >\n"
    )
    _write(tmp_path, {"var/lib/nvpmodel/status": f"{status} fmode:quiet", "etc/nvpmodel.conf": config})
    assert read_power_state(tmp_path).mode == mode


def test_a_jetsons_release_stands_where_nvml_has_no_card(tmp_path: Path) -> None:
    line = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"
    _write(tmp_path, {"etc/nv_tegra_release": f"{line}\n# KERNEL_VARIANT: oot\n"})
    sheet = read_gpus(tmp_path)
    assert sheet.jetson == line.removeprefix("# ") and sheet.cards == () and sheet.why_none


def test_getrusage_serves_where_there_is_no_proc(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    peak = peak_memory_bytes(tmp_path)
    assert peak is not None and peak > 2**20
