"""Synthetic brain-like slices, with and without lesions, for the demo and the tests.

What it is: a seeded drawing program that stacks simple shapes (scalp, skull, fluid gap, folded cortex,
white matter, ventricles, vessel dots) under a smooth gain and Rician noise.  Both classes draw anatomy
from the same distributions, so size and overall brightness say next to nothing about the class; the
lesion is the only difference, and its outline is known.

What it does not know: anatomy.  No patient data went in and nothing was fitted to a scanner: a score
on these images says that a pipeline runs and can learn, and nothing clinical.

Streams: only `random` and `uniform` are drawn, which numpy maps straight from raw bits.  Cosines may
differ between machines in the last bit, so that now and then a grey level differs by one.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from madclip_runtime.errors import OutputNotWritten, UsageError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SMALLEST = 64
NOTE = {"synthetic": True, "generator": "madclip phantoms", "notice": "synthetic phantoms, not patients"}


@dataclass(frozen=True)
class Phantom:
    """One synthetic slice; not an anatomical model, serves demo and tests.

    image: uint8 [S, S] grey 0-255 (arbitrary units, row 0 at the forehead);
    mask: bool [S, S], True on lesion; all False when normal.
    """

    image: npt.NDArray[np.uint8]
    mask: Bools


@dataclass(frozen=True)
class PhantomSet:
    """A written folder of phantoms: its root, and the (normal, abnormal) counts of each split."""

    root: Path
    valid: tuple[int, int]
    test: tuple[int, int]


@dataclass(frozen=True)
class _Head:
    """Coordinates that follow the head, each [S, S]: u right, v back, r radius; the skin is r = 1."""

    u: Floats
    v: Floats
    r: Floats
    rings: tuple[float, float, float]  # r of the skull's outside, of its inside, of the brain's surface


def make_phantom(seed: int, index: int, *, abnormal: bool, size: int = 240) -> Phantom:
    """Draw phantom `index` of a class: image uint8 [size, size] 0-255 and mask bool [size, size].

    Depends on (seed, index, abnormal, size) alone.  Not an anatomical model; serves demo and tests.
    """
    return _render(seed, index, abnormal, size, show_lesion=True)


def write_phantoms(out: Path, *, normal: int, abnormal: int, seed: int, size: int = 240) -> PhantomSet:
    """Write `normal` + `abnormal` phantoms in the "_AD" layout into `out`, which is absent or empty.

    8-bit grey PNG, masks 0/255; the first half of each class, rounded up, is valid, the rest test.
    phantoms.json comes last, so a folder that has it is whole.  Not patients; serves demo and tests.
    """
    if min(normal, abnormal) < 1:
        what = f"{normal} normal and {abnormal} abnormal phantoms were asked for"
        raise UsageError(what, "a set needs images of both classes", "ask for at least 1 of each")
    _check(seed, 0, size)
    _refuse_if_used(out)
    cut = ((normal + 1) // 2, (abnormal + 1) // 2)
    asked = {"seed": seed, "normal": normal, "abnormal": abnormal, "size": size}
    try:
        _write_class(out, normal, cut[0], seed, size, abnormal=False)
        _write_class(out, abnormal, cut[1], seed, size, abnormal=True)
        (out / "phantoms.json").write_text(json.dumps(NOTE | asked, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        shutil.rmtree(out, ignore_errors=True)  # absent or empty before, so all that is in it is ours
        why, do = f"the system said: {error.strerror or error}", "give a folder that can be written to"
        raise OutputNotWritten(f"phantoms were not written to {out}", why, do) from error
    return PhantomSet(root=out, valid=cut, test=(normal - cut[0], abnormal - cut[1]))


def _check(seed: int, index: int, size: int) -> None:
    if size < SMALLEST:
        what, why = f"a phantom of {size} x {size} pixels was asked for", "skull and lesions would be lost"
        raise UsageError(what, why, f"ask for a size of at least {SMALLEST}")
    if min(seed, index) < 0:
        what, why = f"seed {seed} and index {index} were asked for", "a random stream takes no negative number"
        raise UsageError(what, why, "give numbers of at least 0")


def _below(value: Floats, edge: float | Floats, soft: float) -> Floats:
    """1 where value is below edge, 0 above, with a straight ramp `soft` wide between."""
    return np.clip((edge - value) / soft + 0.5, 0.0, 1.0)


def _over(base: Floats, paint: float | Floats, cover: Floats) -> Floats:
    return base + (paint - base) * cover


@lru_cache(maxsize=32)
def _spline(size: int, cells: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The four grid points that each pixel of a line lies between, and their weights, [size, 4] each."""
    at = (np.arange(size) + 0.5) * (cells / size)
    left = np.floor(at).astype(np.int64)
    t = at - left
    parts = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return left[:, None] + np.arange(4), np.stack(parts, axis=1) / 6.0


def _field(rng: np.random.Generator, size: int, cells: int) -> Floats:
    """Smooth random field [size, size], mean 0, spread about 1, some `cells` bumps across."""
    near, weights = _spline(size, cells)
    # 3.6 undoes the flattening: uniform noise has variance 1/3, of which a cubic B-spline keeps 0.23.
    field: Floats = 3.6 * (2.0 * rng.random((cells + 3, cells + 3)) - 1.0)
    for _ in range(2):
        # Not a matrix product: on a busy machine the threads of BLAS made an image ten times slower.
        field = np.einsum("ik,ikj->ij", weights, np.ascontiguousarray(field.T)[near])
    return field


def _head(rng: np.random.Generator, size: int) -> _Head:
    line = (np.arange(size) + 0.5) * (2.0 / size) - 1.0
    x = line[None, :] - rng.uniform(-0.05, 0.05) + 0.008 * _field(rng, size, 5)
    y = line[:, None] - rng.uniform(-0.05, 0.05) + 0.008 * _field(rng, size, 5)
    turn, height = rng.uniform(-0.14, 0.14), rng.uniform(0.76, 0.90)
    v = (x * np.sin(turn) + y * np.cos(turn)) / height
    # A head seen from above is an egg, wider at the back.
    width = height * rng.uniform(0.76, 0.86) * (1.0 + rng.uniform(0.02, 0.09) * v)
    u = (x * np.cos(turn) - y * np.sin(turn)) / width
    skull = 1.0 - rng.uniform(0.045, 0.075)
    inner = skull - rng.uniform(0.045, 0.07)
    return _Head(u, v, np.hypot(u, v), (skull, inner, inner - rng.uniform(0.015, 0.04)))


def _cortex(rng: np.random.Generator, head: _Head, size: int) -> tuple[Floats, Floats]:
    """Grey-matter share and sulcus share, each [S, S] 0..1: folds that run in from the surface."""
    count = 18 + int(7 * rng.random())
    wave = np.cos(count * np.arctan2(head.v, head.u) + 2.0 * _field(rng, size, 9))
    fold = 0.85 * wave + 0.25 * _field(rng, size, 24)
    depth = 1.0 - head.r / head.rings[2]
    near = _below(depth, np.clip(0.19 + 0.10 * _field(rng, size, 11), 0.05, 0.36), 0.12)
    # The halves of the brain part at the midline, in front and behind; cortex lines that cleft too.
    side = np.abs(head.u + 0.012 * _field(rng, size, 8))
    cleft = _below(-np.abs(head.v), -rng.uniform(0.36, 0.48), 0.15)
    grey = np.maximum(_below(-fold, -0.15, 0.6) * near, _below(depth, 0.07, 0.05))
    grey = np.maximum(grey, _below(side, 0.075, 0.05) * cleft)
    return grey, np.maximum(_below(-fold, -0.92, 0.35) * near, _below(side, 0.016, 0.02) * cleft)


def _ventricles(rng: np.random.Generator, head: _Head, size: int) -> tuple[Floats, Floats]:
    """Radius around the two ventricles, [S, S], 1 on their wall; and one that fills the gap between."""
    along = (head.v - rng.uniform(-0.06, 0.06)) / rng.uniform(0.30, 0.42)
    across = np.abs(head.u + rng.uniform(-0.02, 0.02) * head.v + 0.008 * _field(rng, size, 10))
    across = (across - rng.uniform(0.07, 0.10) - rng.uniform(0.06, 0.13) * along**2) / rng.uniform(0.05, 0.10)
    return np.hypot(across, along), np.hypot(np.maximum(across, 0.0), along)


def _brain(rng: np.random.Generator, head: _Head, size: int) -> tuple[Floats, Floats]:
    """Signal inside the brain, and the room there is for a lesion (0..1), each [S, S]."""
    white = rng.uniform(0.38, 0.44) + 0.012 * _field(rng, size, 6) + 0.010 * _field(rng, size, 40)
    lift = rng.uniform(0.09, 0.15)
    grey, sulcus = _cortex(rng, head, size)
    signal = white + lift * (1.0 + 0.25 * _field(rng, size, 12)) * grey
    deep = ((np.abs(head.u) - rng.uniform(0.20, 0.27)) / rng.uniform(0.09, 0.13)) ** 2
    deep = deep + ((head.v - rng.uniform(-0.08, 0.12)) / rng.uniform(0.14, 0.24)) ** 2
    signal = _over(signal, white + 0.6 * lift, _below(deep, 1.0, 0.6))
    signal = _over(signal, 0.13, 0.8 * sulcus)
    hollow, filled = _ventricles(rng, head, size)
    # Healthy ventricles often wear a thin bright rim: a harmless look-alike.
    signal = signal + rng.uniform(0.0, 0.10) * _below(np.abs(hollow - 1.15), 0.15, 0.25)
    signal = _over(signal, 0.10, _below(hollow, 1.0, 0.25))
    return signal, _below(head.r, 0.95 * head.rings[2], 0.03) * _below(-filled, -1.25, 0.25)


def _vessels(rng: np.random.Generator, head: _Head, signal: Floats) -> Floats:
    """Add bright dots, some as bright as scalp, so that brightness alone betrays no lesion."""
    for _ in range(4 + int(7 * rng.random())):
        angle, far = rng.uniform(0.0, 2.0 * np.pi), head.rings[2] * rng.uniform(0.35, 0.97)
        gap = (head.u - far * np.cos(angle)) ** 2 + (head.v - far * np.sin(angle)) ** 2
        reach = rng.uniform(0.010, 0.024) ** 2
        signal = _over(signal, rng.uniform(0.55, 0.95), _below(gap, reach, reach))
    return signal


def _anatomy(rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Noise-free signal (about 0..1) of a head without lesion, and the room for one, each [S, S]."""
    head = _head(rng, size)
    skull, inner, brain = head.rings
    scalp = rng.uniform(0.88, 0.98) + 0.05 * _field(rng, size, 14)
    marrow, middle = rng.uniform(0.2, 0.45), (skull + inner) / 2.0
    signal = scalp * _below(head.r, 1.0, 0.02)
    for paint, edge in ((0.06, skull), (marrow, middle + 0.01), (0.06, middle - 0.01), (0.10, inner)):
        signal = _over(signal, paint, _below(head.r, edge, 0.02))
    inside, room = _brain(rng, head, size)
    return _over(signal, _vessels(rng, head, inside), _below(head.r, brain, 0.02)), room


def _blob(rng: np.random.Generator, room: Floats, shrink: float) -> Floats:
    """Distance-like field [S, S] around a random spot with room; the larger `shrink`, the smaller."""
    size = room.shape[0]
    spots = np.flatnonzero(room >= 1.0)
    row, column = divmod(int(spots[int(rng.random() * spots.size)]), size)
    y = (np.arange(size)[:, None] - row) * (2.0 / size)
    x = (np.arange(size)[None, :] - column) * (2.0 / size)
    turn, squeeze = rng.uniform(0.0, np.pi), rng.uniform(1.0, 1.7)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return shrink * np.hypot(along / squeeze, across * squeeze)


def _blur(mask: Bools, reach: float) -> Floats:
    """The mask with a soft edge `reach` pixels wide.  It wraps around, but no lesion lies near the border."""
    soft = mask.astype(np.float64)
    steps = np.arange(-int(reach), int(reach) + 1)
    weights = 1.0 - np.abs(steps) / reach
    for axis in (0, 1):
        rolled = [np.roll(soft, step, axis) * weight for step, weight in zip(steps, weights, strict=True)]
        soft = np.sum(rolled, axis=0) / weights.sum()
    return soft


def _lesion(rng: np.random.Generator, room: Floats) -> tuple[Floats, Bools]:
    """Added signal and exact mask, each [S, S]: one or two blobs, 0.4 % to 3.8 % of the image."""
    size = room.shape[0]
    area = 0.004 * 9.5 ** rng.random()
    far = _blob(rng, room, 1.0)
    if rng.random() < 0.3:
        far = np.minimum(far, _blob(rng, room, rng.uniform(1.0, 1.8)))
    ragged = _field(rng, size, 9) + 0.8 * _field(rng, size, 20)
    far = np.where(room >= 0.75, far + 0.4 * np.sqrt(area / np.pi) * ragged, np.inf)
    # The edge goes where the blob, cut to the room there is, has the area wanted: no trial and error.
    last = round(area * size * size) - 1
    mask = far <= float(np.partition(far, last, axis=None)[last])
    dark = rng.random() < 0.18
    strength = -rng.uniform(0.09, 0.16) if dark else 0.08 + 0.26 * rng.random() ** 1.5
    texture = np.clip(1.0 + 0.15 * _field(rng, size, 16), 0.6, 1.4)
    return strength * texture * _blur(mask, size * rng.uniform(0.010, 0.025)) * room, mask


def _render(seed: int, index: int, abnormal: bool, size: int, *, show_lesion: bool) -> Phantom:
    """One phantom; without show_lesion its healthy twin, the same to the last grain of noise."""
    _check(seed, index, size)
    rng = np.random.default_rng([seed, index, int(abnormal)])
    signal, room = _anatomy(rng, size)
    gain = rng.uniform(175.0, 220.0) * (1.0 + 0.06 * _field(rng, size, 2))
    mask = np.zeros((size, size), dtype=np.bool_)
    if abnormal:
        extra, mask = _lesion(rng, room)
        signal = np.maximum(signal + extra, 0.0) if show_lesion else signal
    # Length and angle of complex noise (Box and Muller); a scanner shows the length of the sum.
    length = rng.uniform(0.012, 0.028) * np.sqrt(-2.0 * np.log(1.0 - rng.random((size, size))))
    angle = 2.0 * np.pi * rng.random((size, size))
    seen = gain * np.sqrt(signal**2 + 2.0 * signal * length * np.cos(angle) + length**2)
    return Phantom(np.rint(np.clip(seen, 0.0, 255.0)).astype(np.uint8), mask)


def _refuse_if_used(out: Path) -> None:
    try:
        used = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError:
        used = True  # a folder that can't be looked into can't be known to be empty
    if used:
        why, do = "it is not an empty folder", "give a folder that does not exist yet, or an empty one"
        raise OutputNotWritten(f"phantoms were not written to {out}", why, do)


def _write_class(out: Path, count: int, cut: int, seed: int, size: int, *, abnormal: bool) -> None:
    label, stem = ("Ungood", "lesion") if abnormal else ("good", "normal")
    for split in ("valid", "test"):
        for kind in ("img", "anomaly_mask") if abnormal else ("img",):
            (out / split / label / kind).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        phantom = make_phantom(seed, index, abnormal=abnormal, size=size)
        home = out / ("valid" if index < cut else "test") / label
        name = f"{stem}_{index:04d}.png"
        _write_png(home / "img" / name, phantom.image)
        if abnormal:
            _write_png(home / "anomaly_mask" / name, phantom.mask.astype(np.uint8) * np.uint8(255))


def _write_png(path: Path, grey: npt.NDArray[np.uint8]) -> None:
    text = PngInfo()  # the notice travels inside each file, because images get copied without their folder
    text.add_text("Description", "synthetic phantom, not a patient")
    Image.fromarray(grey).save(path, format="PNG", pnginfo=text)
