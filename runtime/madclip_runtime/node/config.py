"""The node's one small file, in INI form, because people write it: read strictly, a word it doesn't know is refused."""

from __future__ import annotations

import configparser
import dataclasses
import ipaddress
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from madclip_runtime.errors import UsageError
from madclip_runtime.node.rules import Rule

__all__ = ["Config", "OrthancAccess", "Settings"]

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """[node]. state: the folder of queue, audit and what is at work; for this user alone. poll_s: between two looks at
    what is new. sweep_s: between two looks at all studies. free_gb: below that, nothing is taken. queue: with that many
    jobs waiting, nothing new is taken. tries: of a job whose fault may pass, before it is set aside. certificates: PEM
    files whose end the doctor looks at. cache: folder for what engines build, "" for this user's own.
    """

    bundle: str
    state: str
    engine: str = "auto"
    batch: int = 1
    poll_s: float = 1.0
    sweep_s: float = 600.0
    free_gb: float = 2.0
    queue: int = 200
    tries: int = 8
    cache: str = ""
    certificates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, good in (
            ("batch", 1 <= self.batch <= 1024),
            ("poll-s", 0.05 <= self.poll_s <= 3600),
            ("sweep-s", self.poll_s <= self.sweep_s),
            ("free-gb", self.free_gb >= 0),
            ("queue", self.queue >= 1),
            ("tries", 1 <= self.tries <= 100),
        ):
            if not good:
                raise ValueError(f"{name} is out of range")


@dataclass(frozen=True)
class OrthancAccess:
    """[orthanc]. url: of its REST interface. send_to: a neighbour by its name in Orthanc's DicomModalities, to which
    results are sent on; "" for nobody. ca: PEM file to trust, for https.
    """

    url: str = "http://127.0.0.1:8042"
    user: str = "madclip-node"
    password_file: str = ""
    send_to: str = ""
    ca: str = ""
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"url {self.url!r} is no http:// or https:// address")
        if parts.username or parts.password:
            raise ValueError("url must not hold a password: use password-file")
        if parts.scheme == "http" and not _is_loopback(parts.hostname):
            raise ValueError("url must be https:// beyond this machine: studies and a password travel over it")
        if not 0.1 <= self.timeout_s <= 3600:
            raise ValueError("timeout-s is out of range")

    def password(self) -> str:
        """Raises: UsageError."""
        if not self.password_file:
            return ""
        path, what = Path(self.password_file), f"password-file {self.password_file}"
        try:
            if os.name == "posix" and path.stat().st_mode & 0o007:
                raise UsageError(what, "everybody on this machine may read it", "chmod o= FILE")
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "is no text"
            raise UsageError(what, why, "check the file and its owner") from None


@dataclass(frozen=True)
class Config:
    """All of it. rules: in the file's order, the first that fits decides."""

    node: Settings
    orthanc: OrthancAccess
    rules: tuple[Rule, ...] = field(default=())

    @classmethod
    def read(cls, path: Path) -> Config:
        """Raises: UsageError naming the section and what is wrong in it."""
        parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"))
        try:
            with path.open(encoding="utf-8") as file:
                parser.read_file(file)
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            why = str(getattr(error, "strerror", None) or error)
            raise UsageError(f"--config {path}", why, "docs/hospital.md shows one") from None
        sections = {name: dict(parser[name]) for name in parser.sections()}
        try:
            return cls._of(sections)
        except ValueError as error:
            raise UsageError(f"--config {path}", str(error), "docs/hospital.md shows one") from None

    @classmethod
    def _of(cls, sections: dict[str, dict[str, str]]) -> Config:
        node = _fill(Settings, "node", sections.pop("node", {}))
        orthanc = _fill(OrthancAccess, "orthanc", sections.pop("orthanc", {}))
        rules = []
        for name, values in sections.items():
            kind, _, label = name.partition(" ")
            if kind != "rule" or not label.strip():
                raise ValueError(f"[{name}] is no section: there are [node], [orthanc] and [rule NAME]")
            if "name" in values:
                raise ValueError(f"[{name}] has its name in the brackets already")
            rules.append(_fill(Rule, name, {"name": label.strip(), **values}))
        names = [rule.name for rule in rules]
        if len(set(names)) < len(names):
            raise ValueError("two rules have one name")
        if not rules:
            raise ValueError("no [rule NAME]: nothing would be done")
        return cls(node, orthanc, tuple(rules))


def _fill(kind: type[T], section: str, values: dict[str, str]) -> T:
    """A dataclass from texts; its field names with - for _. Raises: ValueError."""
    fields = {item.name.replace("_", "-"): item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise ValueError(f"[{section}] {unknown[0]!r} is none of {', '.join(n for n in fields if n != 'name')}")
    filled = {fields[name].name: _value(str(fields[name].type), section, name, text) for name, text in values.items()}
    try:
        return kind(**filled)
    except TypeError:
        needed = [name for name, item in fields.items() if _is_needed(item) and item.name not in filled]
        raise ValueError(f"[{section}] {', '.join(needed)} is missing") from None
    except ValueError as error:
        raise ValueError(f"[{section}] {error}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_needed(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _value(kind: str, section: str, name: str, text: str) -> Any:
    if kind.startswith("tuple"):
        return tuple(text.split())
    try:
        if kind.startswith("int"):
            return int(text)
        if kind.startswith("float"):
            number = float(text)
            if math.isfinite(number):
                return number
            raise ValueError
    except ValueError:
        raise ValueError(f"[{section}] {name} = {text!r} is no number") from None
    return text
