"""An Orthanc in memory: the node's own interface to it, with studies, a change feed, and faults on demand."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pydicom

from madclip_runtime.node.orthanc import Gone, SaidNo, Unreachable

__all__ = ["FakeOrthanc"]


class FakeOrthanc:
    """fault: raised by the next call of that name, once. unstable: studies to which images still come."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, Any] = {}
        self.feed: list[dict[str, Any]] = []
        self.unstable: set[str] = set()
        self.fault: dict[str, Exception] = {}
        self.away = False
        self.sent: list[tuple[str, list[str]]] = []
        self.stores = 0

    def receive(self, content: bytes, tell: bool = True) -> str:
        """An image from a modality; its study's id. tell: in the feed, as stable."""
        data = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
        name = str(data.SOPInstanceUID)
        if name not in self.files:
            self.files[name], self.tags[name] = content, data
        study = str(data.StudyInstanceUID)
        if tell:
            self.feed.append({"Seq": len(self.feed) + 1, "ChangeType": "StableStudy", "ID": study})
        return study

    def last_change(self) -> int:
        self._may("last_change")
        return len(self.feed)

    def changes(self, since: int, limit: int) -> dict[str, Any]:
        self._may("changes")
        found = [one for one in self.feed if one["Seq"] > since][:limit]
        last = found[-1]["Seq"] if found else since
        return {"Changes": found, "Last": last, "Done": last >= len(self.feed)}

    def studies(self, page: int = 100) -> Iterator[dict[str, Any]]:
        self._may("studies")
        for study in dict.fromkeys(str(data.StudyInstanceUID) for data in self.tags.values()):
            count = sum(str(data.StudyInstanceUID) == study for data in self.tags.values())
            yield {"ID": study, "IsStable": study not in self.unstable, "LastUpdate": str(count)}

    def is_stable(self, study: str) -> bool:
        self._may("is_stable")
        if not self._names(study):
            raise Gone("Orthanc", "is not there any more")
        return study not in self.unstable

    def series_of(self, study: str) -> list[dict[str, Any]]:
        self._may("series_of")
        return [self._series(name) for name in self._names(study)]

    def series(self, series: str) -> dict[str, Any]:
        self._may("series")
        return self._series(series)

    def _names(self, study: str) -> list[str]:
        names = [str(data.SeriesInstanceUID) for data in self.tags.values() if data.StudyInstanceUID == study]
        return list(dict.fromkeys(names))

    def _series(self, series: str) -> dict[str, Any]:
        found = {name: data for name, data in self.tags.items() if data.SeriesInstanceUID == series}
        if not found:
            raise Gone("Orthanc", "is not there any more")
        one = next(iter(found.values()))
        words = ("Modality", "BodyPartExamined", "SeriesDescription", "Manufacturer")
        tags = {word: str(one.get(word, "")) for word in words}
        return {"ID": series, "MainDicomTags": tags, "Instances": list(found)}

    def file(self, instance: str) -> bytes:
        self._may("file")
        return self.files[instance]

    def store(self, file: bytes) -> str:
        self._may("store")
        self.stores += 1
        self.receive(file, tell=False)
        return str(pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True).SOPInstanceUID)

    def find(self, uid: str) -> list[str]:
        self._may("find")
        return [uid] if uid in self.files else []

    def send(self, neighbour: str, instances: list[str]) -> None:
        self._may("send")
        self.sent.append((neighbour, instances))

    def results(self) -> list[str]:
        """Modalities of what the node stored."""
        return sorted(str(data.Modality) for data in self.tags.values() if data.get("Manufacturer") == "madclip")

    def _may(self, name: str) -> None:
        if self.away:
            raise Unreachable("Orthanc", "is away")
        if name in self.fault:
            raise self.fault.pop(name)

    @staticmethod
    def no() -> SaidNo:
        """A refusal that may pass."""
        return SaidNo("Orthanc", "answers 500")
