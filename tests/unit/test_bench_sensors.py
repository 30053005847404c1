"""Sensors against files as the kernel documents them: /proc/stat, cpufreq, thermal, hwmon, powercap, INA3221."""

import os
from pathlib import Path

import pytest

from madclip_bench.sensors import all_sensors, is_counter
from madclip_bench.sensors.clocks import Clocks
from madclip_bench.sensors.heat import Heat
from madclip_bench.sensors.jetson import JetsonRails
from madclip_bench.sensors.load import Load
from madclip_bench.sensors.rapl import Rapl

CPU = "sys/devices/system/cpu"


def _write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_load_tells_the_timed_process_from_the_whole_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    stat = "4321 (py (th) on) R 1 4321 4321 0 -1 4194304 9 0 0 0 700 50 30 20 20 0 5 0 1 2 3"
    files = {
        "proc/stat": "cpu  1000 200 300 5000 400 50 50 100 70 0\ncpu0 1 2 3\n",
        "proc/4321/stat": stat,
        "proc/meminfo": "MemTotal: 8 kB\nMemAvailable:    2000000 kB\n",
        "sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_throttled 2\nthrottled_usec 2500000\n",
    }
    found = Load(4321, _write(tmp_path, files)).read()
    assert found["cpu_busy_s_total"] == 16.0  # user, nice, system, irq, softirq; guest is inside user
    assert found["cpu_all_s_total"] == 71.0
    assert found["cpu_steal_s_total"] == 1.0
    assert found["timed_s_total"] == 8.0  # with its children
    assert found["cgroup_throttled_s_total"] == 2.5
    assert found["memory_available_mb"] == 2048.0
    assert found["sampler_s_total"] >= 0


@pytest.mark.parametrize("stat", ["", "cpu one two", "cpu  1 2\n", "intr 5"])
def test_load_without_a_readable_proc_is_empty_but_for_itself(tmp_path: Path, stat: str) -> None:
    sensor = Load(1, _write(tmp_path, {"proc/stat": stat, "proc/1/stat": "1 (x) R"}))
    assert set(sensor.read()) == {"sampler_s_total"}


def test_clocks_from_cpufreq_and_a_jetsons_gpu(tmp_path: Path) -> None:
    files = {f"{CPU}/cpu{i}/cpufreq/scaling_cur_freq": f"{value}\n" for i, value in enumerate((1500000, 900000))}
    files["sys/class/devfreq/17000000.gpu/cur_freq"] = "624750000\n"
    files["sys/class/devfreq/15340000.vic/cur_freq"] = "1\n"
    sensor = Clocks(_write(tmp_path, files))
    assert sensor.read() == {"cpu_mhz": 1200.0, "cpu_mhz_slowest": 900.0, "gpu_mhz": 624.8}
    assert sensor.absent == {}


def test_clocks_from_cpuinfo_or_not_at_all(tmp_path: Path) -> None:
    assert Clocks(tmp_path).read() == {} and "processor clock" in Clocks(tmp_path).absent
    _write(tmp_path, {"proc/cpuinfo": "processor : 0\ncpu MHz\t\t: 2593.9\n\nprocessor : 1\ncpu MHz\t\t: 2594.1\n"})
    assert Clocks(tmp_path).read() == {"cpu_mhz": 2594.0, "cpu_mhz_slowest": 2593.9}


def test_heat_of_a_jetson(tmp_path: Path) -> None:
    zones = {"cpu-thermal": "51250", "gpu-thermal": "48781", "cv0-thermal": "-256000", "tj-thermal": "51250"}
    files = {}
    for i, (name, value) in enumerate(zones.items()):
        files |= {f"sys/class/thermal/thermal_zone{i}/type": name, f"sys/class/thermal/thermal_zone{i}/temp": value}
    devices = (("pwm-fan", "2"), ("cpufreq-cpu0", "3"), ("17000000.gpu", "0"))
    for i, (kind, state) in enumerate(devices):
        files |= {
            f"sys/class/thermal/cooling_device{i}/type": kind,
            f"sys/class/thermal/cooling_device{i}/cur_state": state,
        }
    files |= {"sys/class/hwmon/hwmon2/oc1_event_cnt": "4", "sys/class/hwmon/hwmon2/oc3_event_cnt": "1"}
    sensor = Heat(_write(tmp_path, files))
    assert sensor.read() == {
        "temperature_c:cpu-thermal": 51.2,
        "temperature_c:gpu-thermal": 48.8,
        "temperature_c:tj-thermal": 51.2,
        "throttle_events_total": 5.0,
        "passive_cooling": 1.0,  # the processor is held back; the fan and the idle GPU cooler are not counted
    }
    assert sensor.absent == {}


def test_heat_of_an_intel_server(tmp_path: Path) -> None:
    files = {
        "sys/class/hwmon/hwmon0/name": "coretemp",
        "sys/class/hwmon/hwmon0/temp1_label": "Package id 0",
        "sys/class/hwmon/hwmon0/temp1_input": "64000",
        "sys/class/hwmon/hwmon0/temp2_label": "Core 0",
        "sys/class/hwmon/hwmon0/temp2_input": "60000",
        "sys/class/hwmon/hwmon1/name": "nvme",
        "sys/class/hwmon/hwmon1/temp1_input": "40000",
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "7",
        f"{CPU}/cpu0/thermal_throttle/package_throttle_count": "2",
        f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "1",
    }
    assert Heat(_write(tmp_path, files)).read() == {
        "temperature_c:coretemp Package id 0": 64.0,
        "throttle_events_total": 10.0,
    }


def test_heat_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert set(Heat(tmp_path).absent) == {"temperature", "processor throttling"}
    assert Heat(tmp_path).read() == {}


def _rapl(root: Path, **microjoules: int) -> Path:
    zones = {
        "intel-rapl:0": ("package-0", microjoules.get("package", 0)),
        "intel-rapl:0:0": ("core", 999),
        "intel-rapl:0:1": ("dram", microjoules.get("dram", 0)),
        "intel-rapl:1": ("psys", 999),
    }
    files = {}
    for folder, (name, value) in zones.items():
        place = f"sys/class/powercap/{folder}"
        files |= {f"{place}/name": name, f"{place}/energy_uj": str(value)}
        files[f"{place}/max_energy_range_uj"] = "262143328850"
    return _write(root, files)


def test_rapl_counts_packages_and_memory_and_nothing_twice(tmp_path: Path) -> None:
    sensor = Rapl(_rapl(tmp_path, package=1_000_000, dram=500_000))
    assert sensor.read() == {"energy_j_total:package-0": 0.0, "energy_j_total:package-0 dram": 0.0}
    _rapl(tmp_path, package=26_000_000, dram=3_500_000)
    assert sensor.read() == {"energy_j_total:package-0": 25.0, "energy_j_total:package-0 dram": 3.0}


def test_a_rapl_counter_that_wrapped_round_is_carried_on(tmp_path: Path) -> None:
    sensor = Rapl(_rapl(tmp_path, package=262_143_000_000))
    sensor.read()
    _rapl(tmp_path, package=671_150)
    assert sensor.read()["energy_j_total:package-0"] == pytest.approx(1.0)


def test_rapl_that_only_root_reads_is_not_measured(tmp_path: Path) -> None:
    _rapl(tmp_path)
    for path in tmp_path.rglob("energy_uj"):
        path.unlink()
        path.mkdir()  # unreadable for anybody, root included
    sensor = Rapl(tmp_path)
    assert sensor.read() == {}
    assert sensor.absent == {"energy of the processor (RAPL)": "its counters can be read by root only"}
    assert "no /sys/class/powercap" in next(iter(Rapl(tmp_path / "absent").absent.values()))


def _ina3221(root: Path, *monitors: dict[str, tuple[int, int]]) -> Path:
    """Each monitor: rail → (mV, mA), in the channels' order."""
    files = {}
    for number, rails in enumerate(monitors):
        place = f"sys/class/hwmon/hwmon{number + 1}"
        files[f"{place}/name"] = "ina3221"
        for channel, (label, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
            files |= {
                f"{place}/in{channel}_label": label,
                f"{place}/in{channel}_input": str(millivolts),
                f"{place}/curr{channel}_input": str(milliamperes),
            }
    return _write(root, files)


def test_an_orin_nanos_input_rail_is_the_whole_module(tmp_path: Path) -> None:
    rails = {"VDD_IN": (5056, 1368), "VDD_CPU_GPU_CV": (5056, 296), "VDD_SOC": (5048, 384)}
    sensor = JetsonRails(_ina3221(tmp_path, rails))
    assert sensor.read() == {"power_w:VDD_IN": pytest.approx(6.9166)}  # the others lie behind it
    assert sensor.absent == {}


def test_an_agx_orins_three_rails_are_the_whole_module(tmp_path: Path) -> None:
    first = {"VDD_GPU_SOC": (11_920, 500), "VDD_CPU_CV": (11_920, 100), "VIN_SYS_5V0": (5000, 900)}
    second = {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5000, 300)}
    found = JetsonRails(_ina3221(tmp_path, first, second)).read()
    assert found == {"power_w:VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0": pytest.approx(11.652)}


def test_rails_that_would_be_a_guess_are_not_measured(tmp_path: Path) -> None:
    sensor = JetsonRails(_ina3221(tmp_path, {"GPU": (19_000, 100), "CPU": (19_000, 50), "SOC": (19_000, 40)}))
    assert sensor.read() == {}
    assert "CPU, GPU, SOC" in sensor.absent["power of the module"]


def test_a_rail_that_goes_away_leaves_no_half_a_sum(tmp_path: Path) -> None:
    rails = {"VDD_GPU_SOC": (11_920, 500), "VDD_CPU_CV": (11_920, 100), "VIN_SYS_5V0": (5000, 900)}
    sensor = JetsonRails(_ina3221(tmp_path, rails))
    (tmp_path / "sys/class/hwmon/hwmon1/curr2_input").write_text("error")
    assert sensor.read() == {}


def test_a_machine_that_is_no_jetson_misses_no_rail(tmp_path: Path) -> None:
    assert JetsonRails(tmp_path).absent == {}
    _write(tmp_path, {"etc/nv_tegra_release": "# R36"})
    assert "none" in JetsonRails(tmp_path).absent["power of the module"]


def test_names_tell_counters_from_readings() -> None:
    assert is_counter("energy_j_total:gpu0") and is_counter("cpu_busy_s_total")
    assert not is_counter("temperature_c:total") and not is_counter("power_w:VDD_IN")


def test_all_sensors_read_this_machine_without_a_fault() -> None:
    for sensor in all_sensors(os.getpid()):
        for name, value in sensor.read().items():
            assert isinstance(value, (int, float)) and name
        assert all(why for why in sensor.absent.values())
