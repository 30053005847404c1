"""`madclip-node`: the command. Imports nothing heavy until there is work to do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from madclip_runtime import __version__
from madclip_runtime.command import emit, guarded, stop_on_sigterm, talker
from madclip_runtime.errors import EXIT_OK, one_line

__all__ = ["main", "make_parser"]

talk = talker("madclip-node")

_EPILOG = """exit codes: 0 ok · 2 usage or config · 4 bundle refused · 5 engine refused · 6 internal ·
7 state not written · 8 Orthanc or a neighbour not there · 130 interrupted. docs/hospital.md says how it is set up.
Research use, not a medical device."""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn every refusal into one line on stderr and its exit code."""
    arguments = make_parser().parse_args(argv)
    return guarded(lambda: _run(arguments), talk)


def make_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = argparse.ArgumentParser(
        prog="madclip-node",
        description="Take studies from Orthanc, score them with a madclip bundle, store the results beside them.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"madclip-node {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _command(commands, "run", "work until stopped; one audit line a study on stdout")
    doctor = _command(commands, "doctor", "examine packages, bundle, rules, Orthanc, C-ECHO, disk, certificates, queue")
    status = _command(commands, "status", "what waits, what is done, what was set aside and why")
    audit = _command(commands, "audit", "all audit lines, JSON")
    audit.add_argument("--after", type=int, default=0, metavar="N", help="only those numbered higher than N")
    retry = _command(commands, "retry", "take jobs that were set aside back into the queue")
    retry.add_argument("job", nargs="?", metavar="JOB", help="as status names it (default: all)")
    for one in (doctor, status):
        one.add_argument("--json", action="store_true", help="JSON on stdout")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, told: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=told, description=told)
    parser.add_argument("--config", metavar="FILE", default="/etc/madclip/node.ini", help="default: %(default)s")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from madclip_runtime.node.config import Config

    path = Path(arguments.config)
    if arguments.command == "doctor":
        from madclip_runtime.node.doctor import examine

        return examine(path, arguments.json, emit)
    config = Config.read(path)
    if arguments.command == "run":
        from madclip_runtime.node.start import run

        stop_on_sigterm()
        return run(config, emit, talk)
    return _ask_ledger(arguments, Path(config.node.state))


def _ask_ledger(arguments: argparse.Namespace, folder: Path) -> int:
    from madclip_runtime.node.ledger import ASIDE, Ledger
    from madclip_runtime.node.state import ledger_path, open_folder

    ledger = Ledger(ledger_path(open_folder(folder)))
    try:
        if arguments.command == "audit":
            for number, line in ledger.audit_after(arguments.after):
                emit(json.dumps({"number": number, **json.loads(line)}))
        elif arguments.command == "retry":
            talk(f"{ledger.try_again(arguments.job)} job(s) taken back")
        elif arguments.json:
            aside = [{"job": job.key, "rule": job.rule, "name": job.name, "why": job.why} for job in ledger.jobs(ASIDE)]
            emit(json.dumps({"format": "madclip-node-status/1", "counts": ledger.counts(), "aside": aside}))
        else:
            emit(", ".join(f"{name} {count}" for name, count in ledger.counts().items()))
            for job in ledger.jobs(ASIDE):
                emit(one_line(f"{job.key} {job.rule}: {job.name}: {job.why}"))
    finally:
        ledger.close()
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
