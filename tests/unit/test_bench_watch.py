"""The sampler beside a run, and what is made of its samples: load of others, throttling, energy."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench_fakes import monitor

from madclip_bench.energy import EnergyFigures
from madclip_bench.monitor import Monitor, Watch, parse
from madclip_bench.quiet import QuietFigures, Window, grown
from madclip_bench.sampler import sample

RUN = Window(100.0, 400.0)


def test_the_sampler_is_a_process_of_its_own_and_ends_with_us() -> None:
    with Watch(0.05) as watch:
        assert watch._process is not None and watch._process.pid != os.getpid()
    found = watch.monitor
    assert watch._process.poll() is not None
    assert len(found.at_s) >= 2  # the one that was waited for, and the last
    assert list(found.at_s) == sorted(found.at_s)
    assert found.columns["sampler_s_total"][-1] is not None
    assert all(len(column) == len(found.at_s) for column in found.columns.values())


def test_it_ends_when_whoever_started_it_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "samples"
    command = [sys.executable, "-m", "madclip_bench.sampler", str(os.getpid()), "30", str(out)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert done.returncode == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert set(lines[0]) == {"absent"} and len(lines) == 3


def test_a_sampler_that_cannot_start_leaves_a_run_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Watch(0.05) as watch:
        pass
    assert watch.monitor.at_s == () and watch.monitor.absent == {"everything": "the sampler did not run"}


def test_a_line_that_was_cut_off_is_dropped_and_gaps_stay_gaps() -> None:
    text = '{"absent": {"x": "y"}}\n{"at_s": 1.0, "a": 2}\n{"at_s": 2.0, "b": 3.5}\n{"at_s": 3.0, "a'
    found = parse(text, 1.0)
    assert found == Monitor(1.0, (1.0, 2.0), {"a": (2.0, None), "b": (None, 3.5)}, {"x": "y"})
    assert isinstance(found.columns["a"][0], float)
    assert found.series("a") == [(1.0, 2.0)] and found.series("none") == []


def test_a_sample_joins_all_sensors() -> None:
    class One:
        absent: dict[str, str] = {}  # noqa: RUF012

        def read(self) -> dict[str, float]:
            return {"a": 1.0}

    assert sample((One(),), 2_500_000_000) == {"at_s": 2.5, "a": 1.0}


def test_a_counter_is_read_between_samples_by_straight_lines() -> None:
    found = Monitor(1.0, (0.0, 10.0, 20.0, 30.0), {"x_total": (0.0, 100.0, 150.0, 150.0)})
    assert grown(found, "x_total", Window(5.0, 30.0)) == pytest.approx(100.0)
    assert grown(found, "x_total", Window(5.0, 15.0)) is None  # one sample inside says too little
    assert grown(found, "absent", RUN) is None


def test_a_quiet_machine_has_nothing_to_complain_of() -> None:
    found = QuietFigures.of(monitor(), RUN)
    assert (found.others_share, found.sampler_share, found.steal_share) == (0.0, 0.0025, 0.0)
    assert (found.noise, found.throttled) == ((), ())
    assert found.samples == 301
    heat = found.ranges["temperature_c:cpu-thermal"]
    assert (heat.low, heat.high) == (50.0, 59.0)
    assert not any(name.endswith("_total") for name in found.ranges)


@pytest.mark.parametrize(("others", "noisy"), [(0.3, False), (0.5, True), (2.0, True)])
def test_others_work_beyond_a_tenth_of_the_machine_is_noise(others: float, noisy: bool) -> None:
    found = QuietFigures.of(monitor(others=others), RUN)
    assert found.others_share == pytest.approx(others / 4, abs=1e-3)
    assert bool(found.noise) is noisy
    assert not noisy or found.noise[0].startswith("other processes used")


def _with(**columns: list[float]) -> Monitor:
    base = monitor()
    more = {name: tuple(values) for name, values in columns.items()}
    return dataclasses.replace(base, columns={**base.columns, **more})


def test_stolen_and_withheld_time_is_noise() -> None:
    found = QuietFigures.of(
        _with(cpu_steal_s_total=[0.2 * i for i in range(400)], cgroup_throttled_s_total=[0.05 * i for i in range(400)]),
        RUN,
    )
    assert (found.steal_share, found.cgroup_throttled_share) == (0.05, 0.05)
    assert [reason.partition(" took")[0].partition(" held")[0] for reason in found.noise] == [
        "a hypervisor",
        "a CPU quota",
    ]


def test_throttling_is_found_in_counters_coolers_and_a_cards_reasons() -> None:
    events = [0.0] * 100 + [3.0] * 300
    found = QuietFigures.of(_with(throttle_events_total=events, passive_cooling=[1.0] * 200 + [0.0] * 200), RUN)
    assert found.throttled[0] == "the processor throttled itself 3 times"
    assert found.throttled[1].startswith("passive cooling was at work in 63")
    hot = QuietFigures.of(monitor(gpu_bits=0x60), RUN)
    assert hot.noise == (
        "gpu0: software thermal slowdown in 100.0 % of the samples",
        "gpu0: hardware thermal slowdown in 100.0 % of the samples",
    )
    assert QuietFigures.of(monitor(gpu_bits=0x5), RUN).noise == ()  # idle, and at its power limit: how it is built


def test_an_unwatched_run_has_no_figures_but_no_faults_either() -> None:
    found = QuietFigures.of(Monitor(1.0, ()), RUN)
    assert (found.samples, found.others_share, found.noise, found.ranges) == (0, None, (), {})


def test_energy_is_the_counters_growth_over_a_stretch() -> None:
    work = {"single": (Window(100.0, 150.0), 1000), "offline": (Window(200.0, 210.5), 500)}
    found = EnergyFigures.of(monitor(watts=40.0), Window(90.0, 99.0), work)
    (source,) = found.sources
    assert (found.status, source.name) == ("measured", "package-0")
    assert source.scenarios["single"].joules_per_image == pytest.approx(2.0)
    assert source.scenarios["offline"].joules_per_image == pytest.approx(0.84)
    assert source.scenarios["single"].mean_w == source.idle_w == pytest.approx(40.0)
    assert source.covers == "the processor, without memory, disks, fans and power supply"


def test_energy_of_a_rail_is_powers_integral() -> None:
    """A module that draws 5 W, and 15 W from 120 s to 140 s; sampled once a second."""
    at = tuple(100.0 + i for i in range(100))
    watts = tuple(15.0 if 120 <= when <= 140 else 5.0 for when in at)
    found = EnergyFigures.of(
        Monitor(1.0, at, {"power_w:VDD_IN": watts}), Window(100.0, 110.0), {"single": (Window(110.0, 150.0), 100)}
    )
    (source,) = found.sources
    assert source.scenarios["single"].joules_per_image == pytest.approx((40 * 5 + 21 * 10) / 100, abs=0.11)
    assert (source.idle_w, source.covers) == (5.0, "the whole module, without the carrier board")


def test_sources_stand_side_by_side_and_are_never_added() -> None:
    base = monitor()
    columns = {**base.columns, "energy_j_total:gpu0": tuple(70.0 * i for i in range(400))}
    found = EnergyFigures.of(dataclasses.replace(base, columns=columns), RUN, {"single": (RUN, 100)})
    assert [source.name for source in found.sources] == ["package-0", "gpu0"]
    assert found.sources[1].covers == "the GPU's board, without the rest of the box"


def test_energy_that_cannot_be_read_says_why() -> None:
    unread = dataclasses.replace(monitor(watts=None), absent={"energy of the processor (RAPL)": "root only"})
    found = EnergyFigures.of(unread, RUN, {"single": (RUN, 10)})
    assert (found.status, found.why) == ("not measured", "energy of the processor (RAPL): root only")
    short = EnergyFigures.of(monitor(), RUN, {"single": (Window(100.0, 103.0), 10)})
    assert (short.status, short.why) == ("not measured", "the stretches were too short: each needs 5 samples")
    assert EnergyFigures.of(Monitor(1.0, ()), RUN, {}).why == "no counter of energy or power was found"
