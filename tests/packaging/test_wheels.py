"""What each wheel holds and asks for, and that the four move together and depend only downwards."""

import email
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("madclip", "madclip_bench", "madclip_export", "madclip_runtime")
SIBLINGS = {package.replace("_", "-") for package in PACKAGES}
MAY_ASK_FOR = {
    "madclip_runtime": set(),
    "madclip": {"madclip-runtime"},
    "madclip_bench": {"madclip-runtime"},
    "madclip_export": {"madclip-runtime", "madclip"},
}
CODE = {".py", ".json", ".typed", ".safetensors", ".txt", ".html", ".css", ".js"}
"""What may lie in a package: code, the data the code reads, and the service's pages."""
DEMONSTRATION = "madclip_runtime/demonstration/"
"""The one bundle that may ship: its files may be of other kinds."""
MOST_BYTES = {"madclip": 16e6, "madclip_runtime": 12e6, "madclip_export": 1e6, "madclip_bench": 1e6}


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def requirements(wheel: Path) -> list[Requirement]:
    return [Requirement(text) for text in metadata(wheel).get_all("Requires-Dist", [])]


def test_all_versions_are_one(wheels: dict[str, Path]) -> None:
    assert set(wheels) == set(PACKAGES)
    versions = {package: str(metadata(wheel)["Version"]) for package, wheel in wheels.items()}
    assert len(set(versions.values())) == 1, versions
    for package, wheel in wheels.items():
        source = zipfile.ZipFile(wheel).read(f"{package}/__init__.py").decode()
        assert re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE) == [versions[package]], package


def test_siblings_are_pinned_exactly_and_only_downwards(wheels: dict[str, Path]) -> None:
    version = str(metadata(wheels["madclip"])["Version"])
    for package, wheel in wheels.items():
        asked = [need for need in requirements(wheel) if need.name in SIBLINGS]
        assert {need.name for need in asked} == MAY_ASK_FOR[package], package
        assert all(str(need.specifier) == f"=={version}" for need in asked), asked


def test_the_runtime_asks_for_no_engine_and_no_torch(wheels: dict[str, Path]) -> None:
    needs = requirements(wheels["madclip_runtime"])
    assert {need.name for need in needs if need.marker is None} == {"numpy", "pillow", "opencv-python-headless"}
    extras = {need.name: str(need.marker) for need in needs if need.marker is not None}
    assert set(extras) == {"onnxruntime", "onnxruntime-gpu", "pydicom", "nibabel", "uvicorn", "highdicom"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_its_package_and_nothing_else(wheels: dict[str, Path], package: str) -> None:
    names = [PurePosixPath(name) for name in zipfile.ZipFile(wheels[package]).namelist()]
    info = f"{package}-{metadata(wheels[package])['Version']}.dist-info"
    assert {name.parts[0] for name in names} == {package, info}
    held = [name for name in names if name.parts[0] == package]
    assert PurePosixPath(package, "py.typed") in held
    code = [name for name in held if not str(name).startswith(DEMONSTRATION)]
    assert [str(name) for name in code if name.suffix not in CODE or "test" in str(name)] == []
    assert not any(part.startswith((".", "__pycache__")) for name in names for part in name.parts)
    on_disk = {path.name for path in (ROOT / _home(package)).rglob("*.py")}
    assert {name.name for name in held if name.suffix == ".py"} == on_disk


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_stays_small(wheels: dict[str, Path], package: str) -> None:
    assert wheels[package].stat().st_size <= MOST_BYTES[package]


def test_the_wheel_brings_nanos_weights(wheels: dict[str, Path]) -> None:
    held = zipfile.ZipFile(wheels["madclip"]).namelist()
    assert {"madclip/nano/nano.json", "madclip/nano/nano.safetensors"} <= set(held)


def _home(package: str) -> Path:
    return {"madclip": Path("madclip"), "madclip_bench": Path("benchmarks/madclip_bench")}.get(
        package, Path(package.removeprefix("madclip_"), package)
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_says_what_it_is(wheels: dict[str, Path], package: str) -> None:
    card = metadata(wheels[package])
    assert (card["License-Expression"], card["Requires-Python"]) == ("Apache-2.0", ">=3.10")
    assert "research use, not a medical device" in str(card.get_payload()).lower()


@pytest.mark.parametrize(
    ("package", "command"),
    [("madclip", "madclip"), ("madclip_runtime", "madclip-run"), ("madclip_bench", "madclip-bench")],
)
def test_its_command_is_declared(wheels: dict[str, Path], package: str, command: str) -> None:
    with zipfile.ZipFile(wheels[package]) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert f"{command} = {package}.cli:main" in archive.read(name).decode()


def test_the_runtimes_wheel_holds_the_pages_and_the_node(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["madclip_runtime"]) as archive:
        names = set(archive.namelist())
        (entries,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "madclip-node = madclip_runtime.node.cli:main" in archive.read(entries).decode()
    pages = {f"madclip_runtime/serve/pages/{name}" for name in ("index.html", "viewer.js", "viewer.css", "docs.html")}
    assert names >= pages | {"madclip_runtime/node/start.py", "madclip_runtime/node/worker.py"}


def test_dependencies_between_the_rooms_hold() -> None:
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is not installed: the contracts between the rooms were NOT checked")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "5 kept, 0 broken" in done.stdout
