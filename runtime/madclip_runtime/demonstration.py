"""The bundle that may lie in this package, for `madclip-run --demo`: to see what a result looks like, and no more.

It is trained on drawings (`make demo-bundle` makes it), says so in every result, and its folder is not called
*.madclip, so that no command ever takes it unasked.
"""

from __future__ import annotations

from pathlib import Path

from madclip_runtime.bundle import Bundle
from madclip_runtime.errors import BundleRefused

__all__ = ["DEMONSTRATION", "demonstration_bundle"]

DEMONSTRATION = "demonstration only, trained on synthetic images"
"""Stands in the bundle's notices, and so in every result."""
_FOLDER = Path(__file__).parent / "demonstration"


def demonstration_bundle(folder: Path = _FOLDER) -> Bundle:
    """Opened, its hashes still being checked (see Bundle.open). Raises: BundleRefused, also where it lacks its mark."""
    if not folder.is_dir():
        do = "in a checkout: make demo-bundle; or name a bundle of your own with --bundle"
        raise BundleRefused("--demo", "this madclip-runtime holds no demonstration bundle", do)
    bundle = Bundle.open(folder)
    if DEMONSTRATION not in bundle.manifest.notices:
        raise BundleRefused(str(folder), f"it does not say {DEMONSTRATION!r}", "install madclip-runtime again")
    return bundle
