"""What is to do, what is done and what was set aside, in one SQLite file that a kill -9 leaves whole.

Every step is one transaction: where the feed was read to goes in with the studies it told of, a study's jobs with the
note that it was looked at, the end of its last job with its audit line. What this module does not know: Orthanc.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from madclip_runtime.errors import OutputNotWritten

__all__ = ["ASIDE", "DONE", "SENDING", "WAITING", "Job", "Ledger"]

WAITING, SENDING, DONE, ASIDE = "waiting", "sending", "done", "aside"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), place INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS studies (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, updated TEXT NOT NULL, told INTEGER NOT NULL, next REAL NOT NULL,
  fails INTEGER NOT NULL, series INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (
  key TEXT PRIMARY KEY, study TEXT NOT NULL, series TEXT NOT NULL, rule TEXT NOT NULL, state TEXT NOT NULL,
  starts INTEGER NOT NULL, fails INTEGER NOT NULL, next REAL NOT NULL, since REAL NOT NULL,
  name TEXT NOT NULL, why TEXT NOT NULL, outcome TEXT NOT NULL, told INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_of_study ON jobs (study);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, next);
CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL);
PRAGMA user_version = 1;
"""
_VERSION = 1


@dataclass(frozen=True)
class Job:
    """One series and one rule. starts: how often it was begun. fails: how often it ended in a fault that may pass.

    outcome: what was made so far, JSON; name, why: of the refusal that set it aside, or put it off last.
    """

    key: str
    study: str
    series: str
    rule: str
    state: str
    starts: int
    fails: int
    name: str
    why: str
    outcome: dict[str, Any]


class Ledger:
    """The queue. clock: seconds, as time.time() gives them."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises: OutputNotWritten where the file can't be opened, or is of a later version."""
        self._path, self._clock = path, clock
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            path.chmod(0o600)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise OutputNotWritten(str(path), f"is of version {version}", "it is a later madclip-node's")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise OutputNotWritten(str(path), str(error), "move it away: what is stored will be found again") from None

    def close(self) -> None:
        """Let the file go."""
        self._db.close()

    @property
    def cursor(self) -> int:
        """Up to where the feed was read."""
        row = self._db.execute("SELECT place FROM cursor").fetchone()
        return int(row[0]) if row else 0

    def read_to(self, place: int, studies: list[str]) -> None:
        """The feed was read up to `place`, and told of these studies: they are to be looked at."""
        with self._whole():
            self._db.execute("INSERT OR REPLACE INTO cursor VALUES (1, ?)", (place,))
            for study in studies:
                self._await(study, "")

    def seen(self, study: str, updated: str) -> bool:
        """A sweep met this study, last changed at `updated`; it is to be looked at unless that is known already.

        Returns whether it is new.
        """
        with self._whole():
            row = self._db.execute("SELECT updated FROM studies WHERE id = ?", (study,)).fetchone()
            if row is not None and row[0] == updated:
                return False
            self._await(study, updated)
            return True

    def next_study(self) -> str | None:
        """One to look at."""
        query = "SELECT id FROM studies WHERE state = ? AND next <= ? ORDER BY next LIMIT 1"
        row = self._db.execute(query, (WAITING, self._clock())).fetchone()
        return None if row is None else str(row[0])

    def looked_at(self, study: str, series: int, jobs: list[tuple[str, str, str]]) -> int:
        """Its series count, and what is to do: (key, series, rule). Returns how many of them are new.

        A study in which nothing is to do gets its audit line here, once.
        """
        with self._whole():
            new = [job for job in jobs if not self._knows(job[0])]
            for key, one, rule in new:
                values = (key, study, one, rule, WAITING, 0, 0, 0.0, self._clock(), "", "", "{}", 0)
                self._db.execute(f"INSERT INTO jobs VALUES ({', '.join('?' * len(values))})", values)
            self._db.execute("UPDATE studies SET state = ?, series = ? WHERE id = ?", (DONE, series, study))
            self._close_study(study, even_if_empty=True)
            return len(new)

    def put_off_study(self, study: str, wait_s: float) -> None:
        """Looking at it failed: again later."""
        with self._whole():
            sql = "UPDATE studies SET fails = fails + 1, next = ? WHERE id = ?"
            self._db.execute(sql, (self._clock() + wait_s, study))

    def drop_study(self, study: str) -> None:
        """It is no longer there."""
        with self._whole():
            self._db.execute("UPDATE studies SET state = ? WHERE id = ?", (DONE, study))

    def begin(self) -> Job | None:
        """The next job; that it was begun is written down first, so that one that kills the process is known by it.

        Those that were begun several times and never came to an end go last: a poisonous one holds up nobody.
        """
        with self._whole():
            query = "SELECT key FROM jobs WHERE state IN (?, ?) AND next <= ? ORDER BY starts > 2, since, key LIMIT 1"
            row = self._db.execute(query, (WAITING, SENDING, self._clock())).fetchone()
            if row is None:
                return None
            self._db.execute("UPDATE jobs SET starts = starts + 1 WHERE key = ?", (row[0],))
            return self.job(str(row[0]))

    def stored(self, key: str, outcome: dict[str, Any]) -> None:
        """Its results are in Orthanc, and still to be sent on; faults are counted anew."""
        with self._whole():
            sql = "UPDATE jobs SET state = ?, outcome = ?, fails = 0 WHERE key = ?"
            self._db.execute(sql, (SENDING, json.dumps(outcome), key))

    def done(self, key: str, outcome: dict[str, Any]) -> None:
        """It came to its end."""
        self._set(key, DONE, outcome=outcome)

    def set_aside(self, key: str, name: str, why: str) -> None:
        """It will not be tried again unless somebody says so. name: of the refusal."""
        self._set(key, ASIDE, name=name, why=why)

    def put_off(self, key: str, name: str, why: str, wait_s: float) -> None:
        """A fault that may pass: again after `wait_s`. A start that ended so didn't kill anybody."""
        with self._whole():
            sql = "UPDATE jobs SET starts = starts - 1, fails = fails + 1, next = ?, name = ?, why = ? WHERE key = ?"
            self._db.execute(sql, (self._clock() + wait_s, name, why, key))

    def give_back(self, key: str) -> None:
        """Its start didn't count: somebody else is at fault, or the node is stopped."""
        with self._whole():
            self._db.execute("UPDATE jobs SET starts = starts - 1 WHERE key = ?", (key,))

    def superseded(self, key: str) -> None:
        """Its images, or the bundle, are no longer those it was made for: its study is looked at again instead."""
        with self._whole():
            (study,) = self._db.execute("SELECT study FROM jobs WHERE key = ?", (key,)).fetchone()
            self._db.execute("DELETE FROM jobs WHERE key = ?", (key,))
            self._await(study, "")

    def try_again(self, key: str | None) -> int:
        """Take jobs that were set aside back: one, or all for None. Returns how many."""
        with self._whole():
            sql = "UPDATE jobs SET state = ?, starts = 0, fails = 0, next = 0, told = 0 WHERE state = ?"
            changed = self._db.execute(sql + (" AND key = ?" if key else ""), (WAITING, ASIDE, *([key] if key else [])))
            return changed.rowcount

    def counts(self) -> dict[str, int]:
        """Jobs by state, and studies that wait to be looked at."""
        found = dict(self._db.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall())
        waiting = self._db.execute("SELECT COUNT(*) FROM studies WHERE state = ?", (WAITING,)).fetchone()[0]
        return {
            **{state: int(found.get(state, 0)) for state in (WAITING, SENDING, DONE, ASIDE)},
            "studies": int(waiting),
        }

    def open_work(self) -> int:
        """Jobs and studies not at their end."""
        counts = self.counts()
        return counts[WAITING] + counts[SENDING] + counts["studies"]

    def jobs(self, state: str) -> Iterator[Job]:
        """Those in a state, the oldest first."""
        for row in self._db.execute("SELECT key FROM jobs WHERE state = ? ORDER BY since, key", (state,)).fetchall():
            yield self.job(str(row[0]))

    def audit_after(self, number: int) -> list[tuple[int, str]]:
        """Lines with a higher number."""
        rows = self._db.execute("SELECT number, line FROM audit WHERE number > ? ORDER BY number", (number,)).fetchall()
        return [(int(row[0]), str(row[1])) for row in rows]

    @property
    def last_audit(self) -> int:
        """The number of the last line."""
        return int(self._db.execute("SELECT COALESCE(MAX(number), 0) FROM audit").fetchone()[0])

    def _await(self, study: str, updated: str) -> None:
        sql = """INSERT INTO studies VALUES (?, ?, ?, 0, 0, 0, 0) ON CONFLICT (id) DO UPDATE
                 SET state = excluded.state, next = 0, fails = 0,
                     updated = CASE excluded.updated WHEN '' THEN updated ELSE excluded.updated END"""
        self._db.execute(sql, (study, WAITING, updated))

    def _set(self, key: str, state: str, name: str = "", why: str = "", outcome: dict[str, Any] | None = None) -> None:
        with self._whole():
            told = None if outcome is None else json.dumps(outcome)
            sql = """UPDATE jobs SET state = ?, name = ?, why = ?, fails = 0, starts = 0, next = 0,
                     outcome = COALESCE(?, outcome) WHERE key = ?"""
            self._db.execute(sql, (state, name, why, told, key))
            (study,) = self._db.execute("SELECT study FROM jobs WHERE key = ?", (key,)).fetchone()
            self._close_study(study)

    def _close_study(self, study: str, even_if_empty: bool = False) -> None:
        """The audit line, once all jobs of a study are at their end: about those no line told of yet."""
        rows = self._db.execute("SELECT key FROM jobs WHERE study = ? AND told = 0 ORDER BY key", (study,)).fetchall()
        jobs = [self.job(str(row[0])) for row in rows]
        if any(job.state in (WAITING, SENDING) for job in jobs):
            return
        series, lines = self._db.execute("SELECT series, told FROM studies WHERE id = ?", (study,)).fetchone()
        if not jobs and (lines or not even_if_empty):
            return
        line = {
            "format": "madclip-audit/1",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock())),
            "study": study,
            "series": series,
            "picked": len(jobs),
            "jobs": [_told(job) for job in jobs],
        }
        self._db.execute("INSERT INTO audit (line) VALUES (?)", (json.dumps(line),))
        self._db.execute("UPDATE jobs SET told = 1 WHERE study = ?", (study,))
        self._db.execute("UPDATE studies SET told = told + 1 WHERE id = ?", (study,))

    def _knows(self, key: str) -> bool:
        return self._db.execute("SELECT 1 FROM jobs WHERE key = ?", (key,)).fetchone() is not None

    def job(self, key: str) -> Job:
        """As it stands now."""
        sql = "SELECT key, study, series, rule, state, starts, fails, name, why, outcome FROM jobs WHERE key = ?"
        row = self._db.execute(sql, (key,)).fetchone()
        return Job(*(*row[:9], json.loads(row[9])))

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """One transaction. Raises: OutputNotWritten; nothing of it is kept then."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise OutputNotWritten(str(self._path), str(error), "check the disk") from None


def _told(job: Job) -> dict[str, Any]:
    """A job in an audit line: what was done, not what was found; a refusal by its name, since its text may quote."""
    end = {"end": DONE} if job.state == DONE else {"end": ASIDE, "refused": job.name}
    return {"key": job.key, "rule": job.rule, **end, **job.outcome}
