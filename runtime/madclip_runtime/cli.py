"""`madclip-run`: images in, one line each out. Imports nothing heavy until there is work to do."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from madclip_runtime.command import emit, guarded, stop_on_sigterm, talker
from madclip_runtime.options import make_parser

__all__ = ["main"]

talk = talker("madclip-run")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run, and turn every refusal into one line on stderr and its exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    inputs = arguments.images or arguments.list or arguments.watch
    instead = arguments.selftest or arguments.doctor or arguments.serve
    if inputs and instead:
        parser.error("--serve, --selftest and --doctor take no images")
    if not (inputs or instead):
        parser.error("nothing to do: name an image or a folder, or --list, --watch, --serve, --selftest, --doctor")
    if arguments.demo and (arguments.bundle or arguments.doctor):
        parser.error("--demo is a bundle of its own: neither --bundle nor --doctor goes with it")
    return guarded(lambda: _run(arguments), talk)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.doctor:
        from madclip_runtime.doctor import examine

        return examine(arguments, emit)
    if arguments.selftest:
        from madclip_runtime.replay import run_selftest

        return run_selftest(arguments, emit, talk)
    stop_on_sigterm()
    if arguments.serve:
        from madclip_runtime.serve.server import serve

        return serve(arguments, emit, talk)
    from madclip_runtime.run import run_images

    return run_images(arguments, emit, talk)


if __name__ == "__main__":
    sys.exit(main())
