"""One study looked at, one job done: images from Orthanc, through the detector, results back into the same study.

Each step can be cut off anywhere and done again: UIDs follow from the job's key, and Orthanc keeps the first of equals.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from madclip_runtime.detector import Detector
from madclip_runtime.errors import EngineRefused, InputRefused, MadclipError
from madclip_runtime.files import make_folder
from madclip_runtime.node.findings import examine
from madclip_runtime.node.ledger import SENDING, Job, Ledger
from madclip_runtime.node.objects import make_objects, uids_of
from madclip_runtime.node.orthanc import Gone, Orthanc, Unreachable
from madclip_runtime.node.rules import Rule, is_ours
from madclip_runtime.node.state import DiskLow

__all__ = ["Worker", "wait_s"]

MOST_STARTS = 8
"""A job that was begun so often and never came to an end, not even a fault, kills the process: it is set aside."""
SEND_TRIES = 150
"""A PACS may be away for a night; at ten minutes a try that is a day."""
_LONGEST_WAIT_S = 600.0


def wait_s(fails: int) -> float:
    """Before the next try: 5 s, doubled each time, ten minutes at most."""
    return min(5.0 * 2.0 ** min(fails, 10), _LONGEST_WAIT_S)


class Worker:
    """rules: with the detector of each. work: a folder that holds one series at a time."""

    def __init__(
        self,
        orthanc: Orthanc,
        ledger: Ledger,
        rules: Mapping[str, tuple[Rule, Detector]],
        work: Path,
        *,
        batch: int = 1,
        tries: int = 8,
        send_to: str = "",
        check_disk: Callable[[], None] = lambda: None,
        talk: Callable[[str], None] = lambda _: None,
    ) -> None:
        """tries: of what may pass. send_to: a neighbour of Orthanc's. check_disk: raises where nothing fits."""
        self._orthanc, self._ledger, self._rules, self._work = orthanc, ledger, rules, work
        self._batch, self._tries, self._send_to = batch, tries, send_to
        self._check_disk, self._talk = check_disk, talk

    def look_at_one(self) -> bool:
        """Decide what is to do in one study; whether there was one. Raises: Unreachable."""
        study = self._ledger.next_study()
        if study is None:
            return False
        try:
            if self._orthanc.is_stable(study):
                series = [one for one in self._orthanc.series_of(study) if not is_ours(one.get("MainDicomTags", {}))]
                self._ledger.looked_at(study, len(series), list(self._jobs(series)))
            else:  # images still come
                self._ledger.put_off_study(study, 1.0)
        except Gone:
            self._ledger.drop_study(study)
        except Unreachable:
            raise
        except MadclipError as error:
            self._talk(f"study {study[:8]}: {type(error).__name__}, again later")
            self._ledger.put_off_study(study, wait_s(4))
        return True

    def do_one(self) -> bool:
        """One job, to its end or to a fault; whether there was one. Raises: Unreachable, DiskLow, EngineRefused."""
        self._check_disk()
        job = self._ledger.begin()
        if job is None:
            return False
        try:
            self._do(job)
        except (Unreachable, DiskLow, KeyboardInterrupt):
            self._ledger.give_back(job.key)
            raise
        except (InputRefused, Gone) as error:
            self._set_aside(job, type(error).__name__, error.line())
        except MadclipError as error:
            self._failed(job, type(error).__name__, error.line())
            if isinstance(error, EngineRefused):
                raise
        except Exception as error:  # a fault of ours must not end the work on others
            self._failed(job, "InternalFault", f"{type(error).__name__}: {error}")
        return True

    def _jobs(self, series: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
        for one in series:
            rule = next((rule for rule, _ in self._rules.values() if rule.fits(one.get("MainDicomTags", {}))), None)
            if rule is not None:
                yield self._key(rule, one), str(one["ID"]), rule.name

    def _key(self, rule: Rule, series: dict[str, Any]) -> str:
        detector = self._rules[rule.name][1]
        return rule.key([str(one) for one in series["Instances"]], detector.bundle.digest, detector.threshold)

    def _do(self, job: Job) -> None:
        if job.starts > MOST_STARTS:
            self._set_aside(job, "EndsTheNode", f"was begun {MOST_STARTS} times, and each time the node came to an end")
            return
        if job.rule not in self._rules:
            self._ledger.superseded(job.key)
            return
        rule, detector = self._rules[job.rule]
        outcome = job.outcome
        if job.state != SENDING:
            series = self._orthanc.series(job.series)
            if self._key(rule, series) != job.key:
                self._ledger.superseded(job.key)
                return
            outcome = self._stored_already(job, rule) or self._make(job, rule, detector, series["Instances"])
        if self._send_to and outcome["wrote"]:
            if job.state != SENDING:
                self._ledger.stored(job.key, outcome)
            self._send(job, rule)
        self._ledger.done(job.key, outcome)
        self._talk(f"job {job.key[:8]}: done")

    def _stored_already(self, job: Job, rule: Rule) -> dict[str, Any] | None:
        """What an earlier start left whole: it stored the report last."""
        uids = uids_of(job.key, rule)
        if "sr" not in uids or not self._orthanc.find(uids["sr"][0]):
            return None
        counts = {kind: sum(bool(self._orthanc.find(uid)) for uid in of_kind) for kind, of_kind in uids.items()}
        return {"wrote": {kind: count for kind, count in counts.items() if count}, "left_out": {}}

    def _make(self, job: Job, rule: Rule, detector: Detector, instances: list[str]) -> dict[str, Any]:
        if len(instances) > rule.images:
            raise InputRefused("the series", f"has {len(instances)} images, more than {rule.images}", "see its rule")
        with self._files(instances) as files:
            findings = examine(files, detector, rule.overlays, self._batch)
            written = make_objects(job.key, rule, findings)
        for file in written.files:
            self._orthanc.store(file)
        return {"wrote": written.counts, "left_out": written.left_out}

    @contextmanager
    def _files(self, instances: list[str]) -> Iterator[list[Path]]:
        """All files of a series, named by number. Raises: DiskLow."""
        self.clear()
        make_folder(self._work)
        try:
            files = []
            for number, instance in enumerate(instances):
                self._check_disk()
                path = self._work / f"{number:06d}.dcm"
                content = self._orthanc.file(instance)
                try:
                    path.write_bytes(content)
                except OSError as error:
                    raise DiskLow("a copy of an image", error.strerror or str(error), "check the disk") from None
                files.append(path)
            yield files
        finally:
            self.clear()

    def clear(self) -> None:
        """Leave no image behind."""
        shutil.rmtree(self._work, ignore_errors=True)

    def _send(self, job: Job, rule: Rule) -> None:
        uids = [uid for of_kind in uids_of(job.key, rule).values() for uid in of_kind]
        found = [instance for uid in uids for instance in self._orthanc.find(uid)]
        if not found:
            raise Gone("the results", "are not in Orthanc any more")
        self._orthanc.send(self._send_to, found)

    def _failed(self, job: Job, name: str, why: str) -> None:
        now = self._ledger.job(job.key)
        if now.fails + 1 >= (SEND_TRIES if now.state == SENDING else self._tries):
            self._set_aside(job, name, why)
            return
        pause = wait_s(now.fails)
        self._ledger.put_off(job.key, name, why, pause)
        self._talk(f"job {job.key[:8]}: {name}, again in {pause:.0f} s (madclip-node status says why)")

    def _set_aside(self, job: Job, name: str, why: str) -> None:
        """Why is kept in the ledger only: it may quote what stands in a file."""
        self._ledger.set_aside(job.key, name, why)
        self._talk(f"job {job.key[:8]}: set aside, {name} (madclip-node status says why)")
