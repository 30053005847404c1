"""`madclip-node doctor`: everything the node leans on, looked at once, and what to do about it.

Nothing is changed, no study is taken; it may run beside a node at work.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from madclip_runtime import __version__
from madclip_runtime.doctor import BAD, NOTE, OK, Check
from madclip_runtime.errors import EXIT_OK, MadclipError, PeerRefused, one_line
from madclip_runtime.node.certificates import first_end
from madclip_runtime.node.config import Config
from madclip_runtime.node.ledger import ASIDE, Ledger
from madclip_runtime.node.orthanc import Orthanc
from madclip_runtime.node.state import check_disk, ledger_path, open_folder

__all__ = ["checks", "examine"]

_SOON_DAYS = 30
Found = Iterator[Check]


def examine(path: Path, as_json: bool, emit: Callable[[str], None]) -> int:
    """Print all checks; 0 where nothing is bad, else the exit code of the first that is."""
    code, found = EXIT_OK, []
    for check, exit_code in checks(path):
        found.append(check)
        code = code or (exit_code if check.verdict == BAD else EXIT_OK)
        if not as_json:
            do = f" -> {check.do}" if check.do else ""
            emit(one_line(f"{check.verdict:<4} {check.name}: {check.value}{do}"))
    if as_json:
        content = {"format": "madclip-node-doctor/1", "version": __version__, "checks": [asdict(one) for one in found]}
        emit(json.dumps(content))
    return code


def checks(path: Path) -> Iterator[tuple[Check, int]]:
    """Each with the exit code it would end the node with, from the config up."""
    try:
        config = Config.read(path)
    except MadclipError as error:
        yield _bad("config", error), error.exit_code
        return
    yield Check("config", f"{len(config.rules)} rule(s): {', '.join(rule.name for rule in config.rules)}"), EXIT_OK
    yield from _guarded("highdicom", _highdicom)
    yield from _guarded("bundle", lambda: _bundle(config))
    yield from _guarded("state", lambda: _state(config))
    yield from _guarded("orthanc", lambda: _orthanc(config))
    for certificate in (*config.node.certificates, *([config.orthanc.ca] if config.orthanc.ca else [])):
        yield from _guarded("certificate", lambda certificate=certificate: _certificate(Path(certificate)))  # type: ignore[misc]


def _guarded(name: str, look: Callable[[], Found]) -> Iterator[tuple[Check, int]]:
    try:
        for check in look():
            yield check, PeerRefused.exit_code if check.verdict == BAD else EXIT_OK
    except MadclipError as error:
        yield _bad(name, error), error.exit_code


def _bad(name: str, error: MadclipError) -> Check:
    return Check(name, f"{error.what}: {error.why}", BAD, error.do)


def _highdicom() -> Found:
    from madclip_runtime.node.objects import require_highdicom

    yield Check("highdicom", require_highdicom())


def _bundle(config: Config) -> Found:
    from madclip_runtime.node.start import load_rules

    for name, (_, detector) in load_rules(config, lambda _: None).items():
        told = "none: scores only" if detector.threshold is None else f"{detector.threshold:.4f}"
        value = f"head {detector.head} of {detector.bundle.manifest.model_id}, threshold {told}"
        yield Check(f"rule {name}", value, OK if detector.threshold is not None else NOTE)


def _state(config: Config) -> Found:
    folder = open_folder(Path(config.node.state))
    check_disk(folder, config.node.free_gb)
    yield Check("disk", f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free")
    ledger = Ledger(ledger_path(folder))
    try:
        counts = ledger.counts()
    finally:
        ledger.close()
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    aside = counts[ASIDE] > 0
    yield Check("queue", told, NOTE if aside else OK, "madclip-node status says why" if aside else "")


def _orthanc(config: Config) -> Found:
    orthanc = Orthanc(config.orthanc)
    told = orthanc.system()
    yield Check("orthanc", f"{told.get('Version')}, AE title {told.get('DicomAet')}, port {told.get('DicomPort')}")
    yield _echo("C-ECHO to Orthanc", orthanc.echo_itself, "is its DICOM server enabled?")
    if config.orthanc.send_to:
        name = config.orthanc.send_to
        if name not in orthanc.neighbours():
            yield Check("send-to", f"{name} is none of Orthanc's DicomModalities", BAD, "add it to site.json")
        else:
            yield _echo(
                f"C-ECHO to {name}", lambda: orthanc.echo(name), "is it running, and does it know our AE title?"
            )


def _echo(name: str, ask: Callable[[], None], do: str) -> Check:
    try:
        ask()
    except PeerRefused as error:
        return Check(name, error.why, BAD, do)
    return Check(name, "answered")


def _certificate(path: Path) -> Found:
    end = first_end(path)
    days = (end - datetime.now(timezone.utc)).days
    verdict = BAD if days < 0 else NOTE if days < _SOON_DAYS else OK
    told = f"{path.name} ended on {end:%Y-%m-%d}" if days < 0 else f"{path.name}, {days} days left"
    yield Check("certificate", told, verdict, "" if verdict == OK else "renew it")
