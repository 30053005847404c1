"""Orthanc's REST interface, as much of it as the node needs; every fault on the way is a PeerRefused.

Over the standard library: no redirect is followed, no proxy asked. What this module does not know: what is asked for.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from madclip_runtime.errors import PeerRefused
from madclip_runtime.imaging import MAX_BYTES
from madclip_runtime.node.config import OrthancAccess

__all__ = ["Gone", "Orthanc", "SaidNo", "Unreachable"]

_MOST_JSON = 64 * 2**20


class Unreachable(PeerRefused):
    """It doesn't answer, or not as itself: nothing can be done until it does."""


class SaidNo(PeerRefused):
    """It answers, and refuses this one thing."""


class Gone(SaidNo):
    """What was asked for is no longer there."""


class Orthanc:
    """One connection a call: simple, and a restart of Orthanc leaves nothing half open."""

    def __init__(self, access: OrthancAccess) -> None:
        """Raises: UsageError where the password can't be read."""
        parts = urlsplit(access.url)
        self._secure, self._host = parts.scheme == "https", parts.hostname or ""
        self._port, self._root, self._access = parts.port, parts.path.rstrip("/"), access
        login = base64.b64encode(f"{access.user}:{access.password()}".encode()).decode()
        self._headers = {"Authorization": f"Basic {login}"}

    def system(self) -> dict[str, Any]:
        """Version, AE title, ports."""
        return self._object("/system")

    def changes(self, since: int, limit: int) -> dict[str, Any]:
        """What happened after number `since`: {"Changes": […], "Last": N, "Done": bool}."""
        return self._object("/changes?" + urlencode({"since": since, "limit": limit}))

    def last_change(self) -> int:
        """The number of the latest."""
        return int(self._object("/changes?last").get("Last", 0))

    def studies(self, page: int = 100) -> Iterator[dict[str, Any]]:
        """All of them, expanded; those that come or go meanwhile may be missed or told twice."""
        since = 0
        while True:
            found = self._list(f"/studies?expand&since={since}&limit={page}")
            yield from found
            if len(found) < page:
                return
            since += page

    def is_stable(self, study: str) -> bool:
        """Whether nothing has come for a while. Raises: Gone."""
        return bool(self._object(f"/studies/{_id(study)}").get("IsStable"))

    def series_of(self, study: str) -> list[dict[str, Any]]:
        """Of a study, each with MainDicomTags and its Instances. Raises: Gone."""
        return self._list(f"/studies/{_id(study)}/series")

    def series(self, series: str) -> dict[str, Any]:
        """One, with MainDicomTags and its Instances. Raises: Gone."""
        return self._object(f"/series/{_id(series)}")

    def file(self, instance: str) -> bytes:
        """A whole DICOM file. Raises: Gone."""
        return self._call("GET", f"/instances/{_id(instance)}/file", most=MAX_BYTES)

    def store(self, file: bytes) -> str:
        """Keep a DICOM file; one with a known UID is left as it is. Returns Orthanc's id of the instance."""
        told = _parsed(self._call("POST", "/instances", file, "application/dicom"), "/instances")
        if not isinstance(told, dict) or told.get("Status") not in ("Success", "AlreadyStored"):
            raise SaidNo("Orthanc", "did not store a result", "see its log")
        return str(told["ID"])

    def find(self, uid: str) -> list[str]:
        """Orthanc's ids of the instances with this UID: none or one."""
        found = _parsed(self._call("POST", "/tools/lookup", uid.encode(), "text/plain"), "/tools/lookup")
        return [str(one["ID"]) for one in found if one.get("Type") == "Instance"] if isinstance(found, list) else []

    def send(self, neighbour: str, instances: list[str]) -> None:
        """C-STORE to a neighbour, waiting for the end. Raises: SaidNo where that neighbour isn't there."""
        body = json.dumps({"Resources": instances, "Synchronous": True}).encode()
        self._call("POST", f"/modalities/{quote(neighbour, safe='')}/store", body, "application/json")

    def neighbours(self) -> list[str]:
        """Names in DicomModalities."""
        found = _parsed(self._call("GET", "/modalities"), "/modalities")
        return [str(one) for one in found] if isinstance(found, list) else []

    def echo(self, neighbour: str) -> None:
        """C-ECHO from Orthanc to a neighbour. Raises: SaidNo."""
        self._call("POST", f"/modalities/{quote(neighbour, safe='')}/echo", b"{}", "application/json")

    def echo_itself(self) -> None:
        """C-ECHO to its own DICOM port, as a modality would. Raises: SaidNo."""
        told = self.system()
        body = json.dumps({"AET": told["DicomAet"], "Host": "127.0.0.1", "Port": told["DicomPort"]}).encode()
        self._call("POST", "/tools/dicom-echo", body, "application/json")

    def _object(self, path: str) -> dict[str, Any]:
        found = _parsed(self._call("GET", path), path)
        if not isinstance(found, dict):
            raise Unreachable("Orthanc", f"{path.partition('?')[0]} is no JSON object", "is it Orthanc?")
        return found

    def _list(self, path: str) -> list[dict[str, Any]]:
        found = _parsed(self._call("GET", path), path)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise Unreachable("Orthanc", f"{path.partition('?')[0]} is no list of objects", "is it Orthanc?")
        return found

    def _call(
        self, method: str, path: str, body: bytes | None = None, media: str = "", most: int = _MOST_JSON
    ) -> bytes:
        headers = {**self._headers, **({"Content-Type": media} if media else {})}
        connection = self._connection()
        try:
            connection.request(method, self._root + path, body, headers)
            answer = connection.getresponse()
            data = answer.read(most + 1)
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unreachable(f"Orthanc at {self._access.url}", why, "is it running? see its log") from None
        finally:
            connection.close()
        _check_status(answer.status, method, path)
        if len(data) > most:
            raise SaidNo("Orthanc", f"{_shape(path)} gives more than {most // 2**20} MiB")
        return data

    def _connection(self) -> http.client.HTTPConnection:
        timeout = self._access.timeout_s
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        context = ssl.create_default_context(cafile=self._access.ca or None)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=context)


def _check_status(status: int, method: str, path: str) -> None:
    if 200 <= status < 300:
        return
    what = f"Orthanc, {method} {_shape(path)}"
    if status in (401, 403):
        raise Unreachable(what, f"does not let us in ({status})", "check user and password-file in [orthanc]")
    if status == 404:
        raise Gone(what, "is not there any more")
    if status in (502, 503, 504):
        raise Unreachable(what, f"is not ready ({status})", "it will be tried again")
    raise SaidNo(what, f"answers {status}", "see its log")


def _shape(path: str) -> str:
    """A path for a log: what kind it is, without the ids in it."""
    return "/".join(part if len(part) < 20 else "…" for part in path.partition("?")[0].split("/"))


def _parsed(data: bytes, path: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Unreachable("Orthanc", f"{_shape(path)} is no JSON", "is it Orthanc?") from None


def _id(text: str) -> str:
    return quote(text, safe="")
