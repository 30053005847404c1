"""Reports of several bundles on every engine of this machine, then one comparison. See README.md.

python benchmarks/gpu/measure.py --bundle a.madclip --bundle b.madclip --data Brain_AD --out bench-out
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from madclip_runtime.engines import ENGINES


def main() -> int:
    """0 where at least one report was made and every report holds."""
    arguments = _parser().parse_args()
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    made: dict[str, Path] = {}
    refused: dict[str, str] = {}
    for bundle in map(Path, arguments.bundle):
        for engine in (name for name in ENGINES if name != "auto"):
            name = f"{bundle.stem}-{engine}"
            _talk(f"{name}: running")
            report, why = _report(bundle, engine, arguments, out / f"{name}.json")
            if report is None:
                refused[name] = why
                _talk(f"{name}: {why}")
            else:
                made[name] = report
    compared = _compare(made, out) if len(made) > 1 else None
    holds = {name: _bench("verify", str(path)).returncode == 0 for name, path in made.items()}
    found = {"reports": {name: path.name for name, path in made.items()}, "holds": holds, "refused": refused}
    sys.stdout.write(json.dumps({**found, "comparison": compared}) + "\n")
    return 0 if made and all(holds.values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", action="append", required=True, help="repeatable")
    parser.add_argument("--data", help="an _AD folder: accuracy, and the images")
    parser.add_argument("--quick", action="store_true", help="a look; not for procurement")
    parser.add_argument("--scenarios", help="as madclip-bench run takes them")
    parser.add_argument("--out", required=True, help="folder of reports and pages")
    return parser


def _report(bundle: Path, engine: str, arguments: argparse.Namespace, path: Path) -> tuple[Path | None, str]:
    options = [
        "--bundle",
        str(bundle),
        "--engine",
        engine,
        "--json",
        str(path),
        "--html",
        str(path.with_suffix(".html")),
    ]
    options += ["--quick"] if arguments.quick else []
    options += ["--data", arguments.data] if arguments.data else []
    options += ["--scenarios", arguments.scenarios] if arguments.scenarios else []
    done = _bench("run", *options)
    said = done.stderr.strip().splitlines()
    return (path, "") if path.exists() and done.returncode in (0, 3) else (None, said[-1] if said else "no word why")


def _compare(made: dict[str, Path], out: Path) -> str | None:
    """All against the first, across the bundles that were named; None where they can't be compared."""
    options = [
        *map(str, made.values()),
        "--names",
        ",".join(made),
        "--across",
        "bundle",
        "--html",
        str(out / "compare.html"),
    ]
    done = _bench("compare", *options)
    _talk(done.stdout.rpartition("\n{")[0] or done.stderr.strip())
    return "compare.html" if done.returncode == 0 else None


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "madclip_bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _talk(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
