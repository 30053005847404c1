"""The options of `madclip-run`. Nothing is imported here that takes time: `--help` must come at once."""

from __future__ import annotations

import argparse

from madclip_runtime import __version__
from madclip_runtime.engine_names import AUTO, ENGINES

__all__ = ["make_parser"]

_EPILOG = """exit codes: 0 ok · 2 usage · 3 an input was refused (the others were done) · 4 bundle refused ·
5 engine refused · 6 internal · 7 output not written · 130 interrupted. Nothing is ever sent over a network,
but for the answers of --serve.
Research use, not a medical device."""


def make_parser() -> argparse.ArgumentParser:
    """All options, in the groups that `--help` shows."""
    parser = argparse.ArgumentParser(
        prog="madclip-run",
        description="Score images with a madclip bundle: score, decision and a heat-map overlay for each.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"madclip-run {__version__}")
    _inputs(parser)
    _decision(parser.add_argument_group("model and decision"))
    _outputs(parser.add_argument_group("outputs"))
    _engine(parser.add_argument_group("engine"))
    _service(parser.add_argument_group("service (docs/service.md)"))
    _trust(parser.add_argument_group("instead of images"))
    return parser


def _inputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("inputs")
    group.add_argument(
        "images", nargs="*", metavar="IMAGE|DIR|GLOB|-", help="pictures, DICOM, NIfTI, folders; - is one file on stdin"
    )
    group.add_argument("--list", metavar="FILE", help="also the paths in FILE, one a line; - reads the list from stdin")
    group.add_argument("--watch", metavar="DIR", help="also each file that is put into DIR, until stopped")
    group.add_argument(
        "--axis", type=int, choices=(0, 1, 2), default=2, help="of volumes: 0 sagittal, 1 coronal, 2 axial (default)"
    )
    group.add_argument("--slices", metavar="A:B", help="of volumes: from A up to but not B, or one N (default: all)")
    group.add_argument(
        "--window", metavar="W", help="for DICOM, NIfTI where the bundle names none: =LOW,HIGH, percentile, brain, …"
    )


def _decision(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--bundle", metavar="X.madclip", help="default: $MADCLIP_BUNDLE, else the only one here")
    group.add_argument("--demo", action="store_true", help="the built-in demonstration, trained on synthetic images")
    group.add_argument("--head", metavar="NAME", help='which of a bundle\'s heads, or "all"')
    group.add_argument("--operating-point", metavar="NAME", help="decide at this point of the bundle, sens95 say")
    group.add_argument("--threshold", type=float, metavar="T", help="decide at T instead of the bundle's own point")


def _outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", metavar="DIR", default="madclip-out", help="where files go (default: %(default)s)")
    group.add_argument("--no-overlay", action="store_true", help="no overlay pictures")
    group.add_argument("--map", choices=("png", "npy"), help="also the map: 16-bit PNG or float32 npy")
    group.add_argument("--mask", action="store_true", help="also the mask at the threshold, as PNG")
    group.add_argument("--as-stored", action="store_true", help="maps and masks as the file is stored, not upright")
    group.add_argument("--json", action="store_true", help="one JSON line a result on stdout")
    group.add_argument("--csv", metavar="FILE", help="also a table")
    group.add_argument("--gallery", metavar="FILE.html", help="also one page of all results, to look through")


def _engine(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--engine",
        choices=(AUTO, *ENGINES),
        default=AUTO,
        metavar="NAME",
        help=f"{AUTO} (default), {', '.join(ENGINES)}",
    )
    group.add_argument("--batch", type=int, metavar="N", help="most images a call (default 1; see docs)")
    group.add_argument("--cache-dir", metavar="DIR", help="where this machine's engines are kept")
    group.add_argument("--cache-limit", type=float, default=8.0, metavar="GB", help="its size (default: %(default)s)")
    group.add_argument("--no-cache", action="store_true", help="keep and use nothing built earlier")


def _service(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--serve", metavar="HOST:PORT", help="answer over HTTP, with a viewer page, until stopped")
    group.add_argument("--allow-remote", action="store_true", help="let HOST be more than this machine's loopback")
    group.add_argument("--tls-cert", metavar="FILE", help="certificate chain, PEM; needed with --allow-remote")
    group.add_argument("--tls-key", metavar="FILE", help="its key, PEM, unencrypted")
    group.add_argument("--token-file", metavar="FILE", help="what clients must send; needed with --allow-remote")
    group.add_argument(
        "--max-body", type=float, default=64, metavar="MB", help="largest request (default: %(default)s)"
    )
    group.add_argument(
        "--queue", type=int, default=32, metavar="N", help="most requests at work or waiting (default: %(default)s)"
    )
    group.add_argument(
        "--receive-timeout", type=float, default=30, metavar="S", help="for a whole request (default: %(default)s)"
    )
    group.add_argument(
        "--answer-timeout", type=float, default=60, metavar="S", help="from then to its answer (default: %(default)s)"
    )


def _trust(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--selftest", action="store_true", help="replay the bundle's golden inputs, print differences")
    group.add_argument("--doctor", action="store_true", help="examine this machine, and say what to do")
