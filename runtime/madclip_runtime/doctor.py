"""`madclip-run --doctor`: what this machine has, whether that is enough, and what to do. Works with no package at all.

It names no host and no user. Nothing is sent anywhere.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from madclip_runtime import __version__, machine
from madclip_runtime.errors import EXIT_OK, BundleRefused, EngineRefused, MadclipError, UsageError, one_line

__all__ = ["Check", "checks", "examine"]

OK, NOTE, BAD = "ok", "note", "bad"
_NEEDED = {"numpy": "numpy", "pillow": "pillow", "opencv-python-headless": "opencv-python-headless"}
_OPTIONAL = {"pydicom": "dicom", "nibabel": "nifti"}
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_LEAST_MEMORY_MB, _LEAST_DISK_GB = 1500, 2.0


@dataclass(frozen=True)
class Check:
    """One finding. verdict: "ok", "note" (works, but read it) or "bad" (nothing will run). do: the next step, or ""."""

    name: str
    value: str
    verdict: str = OK
    do: str = ""


def examine(arguments: argparse.Namespace, emit: Callable[[str], None]) -> int:
    """Print all checks; 0 where nothing is bad, else the exit code of what would be refused."""
    found = list(checks(arguments.cache_dir, arguments.out, arguments.bundle))
    if arguments.json:
        content = {"format": "madclip-doctor/1", "version": __version__, "checks": [asdict(check) for check in found]}
        emit(json.dumps(content, allow_nan=False))
    else:
        for check in found:
            do = f" -> {check.do}" if check.do else ""
            emit(one_line(f"{check.verdict:<4} {check.name}: {check.value}{do}"))
    bad = [check.name for check in found if check.verdict == BAD]
    if not bad:
        return EXIT_OK
    return BundleRefused.exit_code if bad == ["bundle"] else EngineRefused.exit_code


def checks(cache_dir: str | None, out: str, bundle: str | None) -> Iterator[Check]:
    """All of them, from the ground up."""
    version = platform.python_version()
    yield Check("python", version, OK if sys.version_info >= (3, 10) else BAD, "")
    yield Check("madclip-runtime", __version__)
    yield from _packages()
    yield from _providers()
    yield from _processor()
    yield _memory()
    yield _disk(Path(out))
    yield _graphics()
    yield _power()
    yield _cache(cache_dir)
    yield _bundle(bundle)


def _packages() -> Iterator[Check]:
    for name in _NEEDED:
        found = _version(name)
        yield Check(name, found or "missing", OK if found else BAD, "" if found else "pip install madclip-runtime")
    there = {name: found for name in _RUNTIMES if (found := _version(name))}
    told = ", ".join(f"{name} {found}" for name, found in there.items())
    if len(there) == 2:
        do = "pip uninstall both, then install one: they overwrite each other"
        yield Check("onnxruntime", told, BAD, do)
    else:
        yield Check("onnxruntime", told or "missing", OK if there else BAD, "" if there else _pip("cpu"))
    for name, extra in _OPTIONAL.items():
        found = _version(name)
        yield Check(
            name, found or "missing", OK if found else NOTE, "" if found else f"only for {extra}: {_pip(extra)}"
        )


def _providers() -> Iterator[Check]:
    try:
        import onnxruntime
    except Exception as error:  # a broken build raises what it likes, not only ImportError
        yield Check("providers", f"ONNX Runtime does not import: {str(error)[:200]}", BAD, _pip("cpu"))
        return
    there = onnxruntime.get_available_providers()
    usual = "CPUExecutionProvider" in there
    yield Check("providers", ", ".join(there), OK if usual else BAD, "" if usual else "reinstall onnxruntime")


def _processor() -> Iterator[Check]:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("cpu", f"{machine.cpu_name()}, {allowed} of {os.cpu_count()} processors may be used")
    features = set(machine.cpu_features())
    if not features:
        yield Check("cpu features", "not told by this system", NOTE)
        return
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
    told = ", ".join(name for name in known if name in features)
    fast = {"avx2", "asimd"} & features
    int8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"} & features
    do = "" if int8 else "int8 bundles gain little here" if fast else "expect it to be slow"
    yield Check("cpu features", told or "none that matter", OK if int8 else NOTE, do)


def _memory() -> Check:
    found = machine.memory_mb()
    if found is None:
        return Check("memory", "not told by this system", NOTE)
    enough = found[1] >= _LEAST_MEMORY_MB
    do = "" if enough else f"below {_LEAST_MEMORY_MB} MB only int8 or small bundles fit"
    return Check("memory", f"{found[1]} of {found[0]} MB available", OK if enough else NOTE, do)


def _disk(out: Path) -> Check:
    place = next(path for path in (out.resolve(), *out.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e9
    enough = free >= _LEAST_DISK_GB
    return Check("disk", f"{free:.1f} GB free for --out", OK if enough else NOTE, "" if enough else "make room")


def _graphics() -> Check:
    found = machine.gpus()
    if not found:
        return Check("gpu", "none that nvidia-smi or a Jetson's own files tell of", NOTE, "the cpu engine will be used")
    return Check("gpu", "; ".join(found))


def _power() -> Check:
    mode = machine.power_mode()
    slow = mode == "powersave"
    do = "a governor that saves power makes latencies longer and uneven" if slow else ""
    return Check("power mode", mode or "not told by this system", NOTE if slow or not mode else OK, do)


def _cache(named: str | None) -> Check:
    from madclip_runtime.cache import open_cache

    said: list[str] = []
    try:
        cache = open_cache(named, 8.0, said.append)
    except MadclipError as error:
        return Check("cache", error.line(), NOTE)
    if cache is None:
        return Check("cache", said[0] if said else "none", NOTE)
    return Check("cache", f"{cache.folder}: {len(cache.entries())} entries, {cache.size_bytes() / 1e9:.2f} GB")


def _bundle(named: str | None) -> Check:
    try:
        from madclip_runtime.bundle import Bundle, find_bundle

        bundle = Bundle.load(find_bundle(named))
    except UsageError as error:
        return Check("bundle", error.why, NOTE, error.do)
    except MadclipError as error:
        return Check("bundle", f"{error.what}: {error.why}", BAD, error.do)
    except ImportError:
        return Check("bundle", "not looked at: packages are missing", NOTE)
    heads = ", ".join(bundle.manifest.heads)
    return Check("bundle", f"{bundle.manifest.model_id} ({heads}), all hashes are the manifest's")


def _pip(extra: str) -> str:
    return f'pip install "madclip-runtime[{extra}]"'


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
