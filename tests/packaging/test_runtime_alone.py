"""The runtime in an environment that holds its wheel, its few packages, and nothing else.

The first part needs no network: it links exactly the declared packages out of the environment the tests run in. The
second installs from a real index and runs only with MADCLIP_REAL_INDEX=1 (`make test-wheels`).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_files import noise, saved
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

WITH_CPU = {
    *("madclip-runtime", "numpy", "pillow", "opencv-python-headless", "onnxruntime"),
    *("flatbuffers", "protobuf", "packaging"),  # onnxruntime's own
}
"""Every package an edge box gets. A ninth one is a decision, not an accident."""
ABSENT = ("torch", "onnx", "typer", "requests", "scipy", "open_clip", "madclip", "madclip_export", "madclip_bench")
RUN = "import sys; from madclip_runtime.cli import main; sys.exit(main())"
"""What the console script does."""
NODE = RUN.replace("madclip_runtime.cli", "madclip_runtime.node.cli")


def closure(name: str, extras: frozenset[str] = frozenset()) -> Iterator[str]:
    """The declared dependencies of an installed distribution, and theirs; each name may come more than once."""
    for text in importlib.metadata.requires(name) or []:
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(need.name)
            yield from closure(need.name, frozenset(need.extras))


def link(name: str, target: Path) -> None:
    """Put every file that a distribution's RECORD lists into `target`, as links; scripts are left out."""
    distribution = importlib.metadata.distribution(name)
    for file in distribution.files or []:
        if ".." not in file.parts:
            place = target / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(Path(str(distribution.locate_file(file))).resolve())


def empty_environment(folder: Path, *options: str) -> tuple[Path, Path]:
    """A new virtual environment: its python and its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", *options, str(folder)], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return python, Path(call(python, "-c", where).stdout.strip())


def call(python: Path, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run it isolated (-I): neither this checkout nor PYTHONPATH may lend it a module."""
    return subprocess.run(
        [str(python), "-I", *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=cwd, check=False
    )


@pytest.fixture(scope="module")
def alone(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment with the runtime's wheel and exactly what its [cpu] declares."""
    python, site = empty_environment(tmp_path_factory.mktemp("alone") / "venv", "--without-pip")
    zipfile.ZipFile(wheels["madclip_runtime"]).extractall(site)
    for name in sorted(set(closure("madclip-runtime", frozenset({"cpu"})))):
        link(name, site)
    return python


@pytest.fixture(scope="module")
def bare(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment with the runtime's wheel and none of its dependencies."""
    python, site = empty_environment(tmp_path_factory.mktemp("bare") / "venv", "--without-pip")
    zipfile.ZipFile(wheels["madclip_runtime"]).extractall(site)
    return python


def installed(python: Path) -> set[str]:
    code = "import importlib.metadata as m, json; print(json.dumps([d.name for d in m.distributions()]))"
    return {canonicalize_name(name) for name in json.loads(call(python, "-c", code).stdout)}


def check_that_it_works(python: Path, bundle: Path, folder: Path) -> None:
    (folder / "scan.png").write_bytes(saved(noise(), "PNG"))
    done = call(python, "-c", RUN, "--bundle", bundle, "--json", "scan.png", "none.png", cwd=folder)
    assert done.returncode == 3, done.stderr
    good, refused = (json.loads(line) for line in done.stdout.splitlines())
    assert (good["decision"], good["bundle"], good["engine"]) == ("abnormal", "tiny-brightness", "onnxruntime-cpu")
    assert (folder / good["overlay"]).is_file() and refused["refused"]["name"] == "InputRefused"


def check_that_nothing_else_is_there(python: Path) -> None:
    code = f"import importlib.util as u, json; print(json.dumps([n for n in {ABSENT} if u.find_spec(n)]))"
    assert json.loads(call(python, "-c", code).stdout) == []


def loaded_by(python: Path, code: str) -> set[str]:
    done = call(python, "-c", f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_eight_packages_are_all_it_gets(alone: Path) -> None:
    assert installed(alone) == WITH_CPU
    assert len(WITH_CPU) <= 8


def test_it_works_alone(alone: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    check_that_it_works(alone, tiny_bundle, tmp_path)


def test_nothing_of_training_is_importable(alone: Path) -> None:
    check_that_nothing_else_is_there(alone)


def test_the_code_under_test_is_the_wheels(alone: Path) -> None:
    done = call(alone, "-c", "import madclip_runtime; print(madclip_runtime.__file__)")
    assert Path(done.stdout).is_relative_to(alone.parent.parent)


def test_importing_it_loads_nothing_heavy(alone: Path) -> None:
    heavy = {"numpy", "PIL", "cv2", "onnxruntime"}
    assert not heavy & loaded_by(alone, "import madclip_runtime, madclip_runtime.cli")
    assert {"numpy", "PIL"} <= loaded_by(alone, "from madclip_runtime import Detector")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_it_can_explain_itself_with_no_package_at_all(bare: Path, arguments: list[str]) -> None:
    assert installed(bare) == {"madclip-runtime"}
    done = call(bare, "-c", RUN, *arguments)
    assert done.returncode == (0 if arguments else 2)
    assert "madclip-run" in done.stdout + done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["doctor", "--help"], []])
def test_the_nodes_command_too(bare: Path, arguments: list[str]) -> None:
    done = call(bare, "-c", NODE, *arguments)
    assert done.returncode == (0 if arguments else 2)
    assert "madclip-node" in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_help_of_the_service_and_the_node_loads_none_of_their_packages(alone: Path) -> None:
    code = "import contextlib, madclip_runtime.cli as run, madclip_runtime.node.cli as node\n" + "".join(
        f"with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None): {name}.main(['--help'])\n"
        for name in ("run", "node")
    )
    loaded = loaded_by(alone, code)
    heavy = {"asyncio", "sqlite3", "ssl", "numpy", "uvicorn", "highdicom", "pydicom", "madclip_runtime.serve"}
    assert not heavy & loaded


def test_without_their_extras_service_and_node_say_the_pip_line(alone: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    done = call(alone, "-c", RUN, "--serve", "127.0.0.1:0", "--bundle", tiny_bundle, cwd=tmp_path)
    assert done.returncode == 2 and 'pip install "madclip-runtime[serve]"' in done.stderr
    config = tmp_path / "node.ini"
    config.write_text(f"[node]\nbundle = {tiny_bundle}\nstate = {tmp_path / 'state'}\n[rule r]\nmodality = CT\n")
    done = call(alone, "-c", NODE, "run", "--config", config, cwd=tmp_path)
    assert done.returncode == 2 and 'pip install "madclip-runtime[node]"' in done.stderr


def test_help_names_every_exit_code(bare: Path) -> None:
    text = " ".join(call(bare, "-c", RUN, "--help").stdout.split())
    for code in ("0 ok", "2 usage", "3 an input", "4 bundle", "5 engine", "6 internal", "7 output", "130 interrupted"):
        assert code in text
    assert "Research use, not a medical device." in text


def test_the_doctor_works_with_no_package_at_all(bare: Path, tmp_path: Path) -> None:
    done = call(bare, "-c", RUN, "--doctor", "--json", cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    verdicts = {check["name"]: check["verdict"] for check in json.loads(done.stdout)["checks"]}
    assert verdicts["numpy"] == verdicts["onnxruntime"] == "bad" and verdicts["python"] == "ok"


def test_the_self_test_and_the_schema_are_in_the_wheel(alone: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    assert call(alone, "-c", RUN, "--selftest", "--bundle", tiny_bundle, cwd=tmp_path).returncode == 0
    where = "files('madclip_runtime').joinpath('schemas/result-2.json')"
    code = f"from importlib.resources import files; print({where}.read_text())"
    assert json.loads(call(alone, "-c", code).stdout)["title"] == "madclip-result/2"


def unit(name: str) -> tuple[list[str], dict[str, str]]:
    """A systemd unit's command, and its [Service] section."""
    import configparser

    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(Path(__file__).resolve().parents[2] / "runtime" / "systemd" / name)
    return found["Service"]["ExecStart"].split(), dict(found["Service"])


def test_the_units_call_the_commands_as_they_are() -> None:
    from madclip_runtime.node.cli import make_parser as make_node_parser
    from madclip_runtime.options import make_parser

    (command, *arguments), service = unit("madclip-watch.service")
    parsed = make_parser().parse_args(arguments)
    assert command.endswith("/madclip-run") and parsed.watch and parsed.out in service["ReadWritePaths"]
    assert service["PrivateNetwork"] == "yes"
    (command, *arguments), service = unit("madclip-serve.service")
    parsed = make_parser().parse_args(arguments)
    longest = 2 * parsed.receive_timeout + parsed.answer_timeout
    assert command.endswith("/madclip-run") and parsed.serve == "127.0.0.1:8080" and not parsed.allow_remote
    assert float(service["TimeoutStopSec"]) > longest
    (command, *arguments), service = unit("madclip-node.service")
    parsed = make_node_parser().parse_args(arguments)
    assert command.endswith("/madclip-node") and (parsed.command, parsed.config) == ("run", "/etc/madclip/node.ini")


def test_the_nodes_example_is_a_config_that_fits_its_units() -> None:
    from madclip_runtime.node.config import Config

    root = Path(__file__).resolve().parents[2]
    config = Config.read(root / "runtime" / "orthanc" / "node.ini")
    _, node = unit("madclip-node.service")
    assert config.node.state == f"/var/lib/{node['StateDirectory']}" and config.orthanc.send_to == ""
    assert config.node.cache == f"/var/cache/{node['CacheDirectory']}"
    (_, script), orthanc = unit("madclip-orthanc.service")
    assert orthanc["Environment"].endswith(config.orthanc.password_file)  # the last of its lines
    assert (root / "runtime" / "orthanc" / Path(script).name).is_file()


def test_a_wheelhouse_installs_and_runs_without_a_network(tiny_bundle: Path, tmp_path: Path) -> None:
    if os.environ.get("MADCLIP_REAL_INDEX") != "1":
        pytest.skip("MADCLIP_REAL_INDEX is not 1: making and installing a wheelhouse was NOT tried")
    root = Path(__file__).resolve().parents[2]
    house = tmp_path / "wheelhouse"
    collect = [sys.executable, "-m", "pip", "wheel", "--quiet", "-c", str(root / "constraints.txt"), "--wheel-dir"]
    subprocess.run([*collect, str(house), f"{root / 'runtime'}[cpu,dicom,nifti]"], check=True)
    python, _ = empty_environment(tmp_path / "venv")
    cut_off = ["unshare", "-n"] if subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0 else []
    install = [*cut_off, str(python), "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(house)]
    subprocess.run([*install, "madclip-runtime[cpu,dicom,nifti]"], check=True)
    assert {"pydicom", "nibabel"} <= installed(python)
    check_that_it_works(python, tiny_bundle, tmp_path)


def test_from_a_real_index(wheels: dict[str, Path], tiny_bundle: Path, tmp_path: Path) -> None:
    if os.environ.get("MADCLIP_REAL_INDEX") != "1":
        pytest.skip("MADCLIP_REAL_INDEX is not 1: installing the wheel from a real index was NOT tried")
    python, _ = empty_environment(tmp_path / "venv")
    wheel = f"{wheels['madclip_runtime']}[cpu]"
    done = call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    assert done.returncode == 0, done.stderr
    assert installed(python) - {"pip", "setuptools"} == WITH_CPU
    check_that_it_works(python, tiny_bundle, tmp_path)
    check_that_nothing_else_is_there(python)
    script = subprocess.run([python.parent / "madclip-run", "--version"], capture_output=True, text=True, check=True)
    assert script.stdout.startswith("madclip-run ")
