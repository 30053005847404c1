"""Damaged and hostile bundles: each is refused by name before its graph is loaded, and none crashes the reader."""

import hashlib
import io
import json
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bundle_edits import edit_manifest, npy, replace_file

from madclip_runtime.bundle import GOLDEN_IMAGES, MANIFEST, MODEL, Bundle, golden_files, head_graph
from madclip_runtime.errors import BundleRefused

GOLDEN = (GOLDEN_IMAGES, *golden_files(["brightness"])["brightness"])
LISTED = (MODEL, *GOLDEN)


def refusal(bundle: Path) -> str:
    """The one printable line that loading this bundle must end in; it names the bundle's folder."""
    with pytest.raises(BundleRefused) as caught:
        Bundle.load(bundle)
    line = caught.value.line()
    assert line.isprintable() and bundle.name in line and caught.value.exit_code == 4
    return line


def test_an_honest_bundle_is_accepted(tiny_bundle: Path) -> None:
    bundle = Bundle.load(str(tiny_bundle))
    assert bundle.digest == hashlib.sha256((tiny_bundle / MANIFEST).read_bytes()).hexdigest()
    assert bundle.model_path == tiny_bundle / MODEL
    golden = bundle.golden()
    assert golden.images.shape == (4, 32, 32, 3) and golden.maps.shape == (4, 32, 32)


@pytest.mark.parametrize("name", LISTED)
def test_one_changed_bit_is_refused(tiny_bundle: Path, name: str) -> None:
    data = (tiny_bundle / name).read_bytes()
    for place in (0, len(data) // 2, len(data) - 1):
        (tiny_bundle / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert f"{name}: its SHA-256 is not the manifest's" in refusal(tiny_bundle)


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("change", [-1, 1, None], ids=["shorter", "longer", "empty"])
def test_another_size_is_refused(tiny_bundle: Path, name: str, change: int | None) -> None:
    data = (tiny_bundle / name).read_bytes()
    (tiny_bundle / name).write_bytes(b"" if change is None else data + b"x" if change > 0 else data[:change])
    assert f"the manifest says {len(data)}" in refusal(tiny_bundle)


@pytest.mark.parametrize("name", [MANIFEST, *LISTED])
def test_a_missing_file_is_refused(tiny_bundle: Path, name: str) -> None:
    (tiny_bundle / name).unlink()
    assert f"{name}: No such file" in refusal(tiny_bundle)


@pytest.mark.parametrize("name", LISTED)
def test_a_link_out_of_the_bundle_is_refused_even_to_the_right_bytes(tiny_bundle: Path, name: str) -> None:
    outside = tiny_bundle.parent / "outside"
    shutil.move(tiny_bundle / name, outside)
    (tiny_bundle / name).symlink_to(outside)
    assert f"{name}: a link that leaves the bundle" in refusal(tiny_bundle)


def test_a_linked_folder_inside_the_bundle_is_refused(tiny_bundle: Path) -> None:
    outside = tiny_bundle.parent / "outside"
    shutil.move(tiny_bundle / "golden", outside)
    (tiny_bundle / "golden").symlink_to(outside)
    assert "a link that leaves the bundle" in refusal(tiny_bundle)


def test_a_ring_of_links_is_refused(tiny_bundle: Path) -> None:
    (tiny_bundle / MODEL).unlink()
    (tiny_bundle / MODEL).symlink_to(tiny_bundle / MODEL)
    assert MODEL in refusal(tiny_bundle)


def test_links_within_a_bundle_and_to_a_whole_bundle_are_fine(tiny_bundle: Path) -> None:
    (tiny_bundle / MODEL).rename(tiny_bundle / "real.onnx")
    (tiny_bundle / MODEL).symlink_to("real.onnx")
    link = tiny_bundle.parent / "link.madclip"
    link.symlink_to(tiny_bundle)
    assert Bundle.load(link).manifest == Bundle.load(tiny_bundle).manifest


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/hostname", "golden/../../outside", "..\\outside", "", ".", "./.."]
)
def test_a_name_that_leaves_the_bundle_is_refused(tiny_bundle: Path, name: str) -> None:
    (tiny_bundle.parent / "outside").write_bytes(b"")
    entry = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}
    edit_manifest(tiny_bundle, lambda manifest: manifest["files"].update({name: entry}))
    assert "which leaves the bundle" in refusal(tiny_bundle)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000, "golden", "none.bin", "new\nline"])
def test_a_name_that_is_no_file_is_refused(tiny_bundle: Path, name: str) -> None:
    entry = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}
    edit_manifest(tiny_bundle, lambda manifest: manifest["files"].update({name: entry}))
    refusal(tiny_bundle)


@pytest.mark.parametrize("name", LISTED)
def test_a_required_file_must_be_listed(tiny_bundle: Path, name: str) -> None:
    edit_manifest(tiny_bundle, lambda manifest: manifest["files"].pop(name))
    assert f"does not list {name}" in refusal(tiny_bundle)


def test_a_manifest_changed_by_one_bit_is_refused_or_seen_in_the_digest(tiny_bundle: Path) -> None:
    """Nothing signs a manifest, so a changed figure can pass; what stands in every result then shows it."""
    path = tiny_bundle / MANIFEST
    data, digest, refused = path.read_bytes(), Bundle.load(tiny_bundle).digest, 0
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            assert Bundle.load(tiny_bundle).digest != digest
        except BundleRefused as error:
            refused += 1
            assert error.line().isprintable()
    assert refused > 0


@pytest.mark.parametrize("length", [0, 1, 100, -2])
def test_a_cut_manifest_is_refused(tiny_bundle: Path, length: int) -> None:
    path = tiny_bundle / MANIFEST
    path.write_bytes(path.read_bytes()[:length])
    assert f"{MANIFEST}: not JSON" in refusal(tiny_bundle)


def test_a_huge_manifest_is_refused_unread(tiny_bundle: Path) -> None:
    with (tiny_bundle / MANIFEST).open("ab") as file:
        file.truncate(2**33)  # sparse: eight gigabytes that take no room
    assert "far larger than any manifest" in refusal(tiny_bundle)


def test_a_manifest_that_is_a_folder_is_refused(tiny_bundle: Path) -> None:
    (tiny_bundle / MANIFEST).unlink()
    (tiny_bundle / MANIFEST).mkdir()
    assert MANIFEST in refusal(tiny_bundle)


def test_a_long_or_coloured_text_in_a_refusal_stays_one_line(tiny_bundle: Path) -> None:
    edit_manifest(tiny_bundle, lambda manifest: manifest.update(precision="\x1b[31m\n" + "x" * 10**6))
    assert len(refusal(tiny_bundle)) < 11_000


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.madclip").write_bytes(b"zip?")
    assert "a bundle is a folder, and this is a file" in refusal(tmp_path / "file.madclip")
    assert "no such folder" in refusal(tmp_path / "none.madclip")
    (tmp_path / "empty.madclip").mkdir()
    assert "No such file" in refusal(tmp_path / "empty.madclip")
    with pytest.raises(BundleRefused):
        Bundle.load("x" * 5000)


def _zip_of_arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


def _header_that_promises(count: int) -> bytes:
    data = npy(np.zeros((111, 32, 32, 3), np.uint8))
    return data[:128].replace(b"(111,", b"(%d," % count)


BAD_ARRAYS = {
    "empty": b"",
    "text": b"no array",
    "a zip of arrays": _zip_of_arrays(),
    "another dtype": npy(np.zeros((4, 32, 32, 3), np.float32)),
    "another size": npy(np.zeros((4, 33, 32, 3), np.uint8)),
    "another count": npy(np.zeros((3, 32, 32, 3), np.uint8)),
    "no dimension": npy(np.uint8(3)),
    "objects, which need pickle": npy(np.array([{}, None], dtype=object)),
    "cut": npy(np.zeros((4, 32, 32, 3), np.uint8))[:-1],
    "more than there is": _header_that_promises(10**9),
}


@pytest.mark.parametrize("data", BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_golden_files_that_are_listed_but_wrong_are_refused(tiny_bundle: Path, data: bytes) -> None:
    replace_file(tiny_bundle, GOLDEN[0], data)
    bundle = Bundle.load(tiny_bundle)
    with pytest.raises(BundleRefused, match="golden"):
        bundle.golden()


@pytest.mark.parametrize("name", GOLDEN[1:])
def test_golden_answers_must_be_float32(tiny_bundle: Path, name: str) -> None:
    replace_file(tiny_bundle, name, npy(np.load(tiny_bundle / name).astype(np.float64)))
    with pytest.raises(BundleRefused, match="wrong shape or type"):
        Bundle.load(tiny_bundle).golden()


def test_files_beside_the_listed_ones_are_left_alone(tiny_bundle: Path) -> None:
    (tiny_bundle / "model.plan").write_bytes(b"an engine built on this box")
    Bundle.load(tiny_bundle)
    assert (tiny_bundle / "model.plan").read_bytes() == b"an engine built on this box"


@pytest.mark.parametrize("place", ["../weights.bin", "link.bin", "beside.bin", "/etc/hostname", "", "golden/../w"])
def test_a_graph_whose_weights_lie_in_a_file_that_is_not_listed_is_refused(tiny_bundle: Path, place: str) -> None:
    weights = np.full(1024, 255, np.float32).tobytes()
    (tiny_bundle.parent / "weights.bin").write_bytes(weights)
    (tiny_bundle / "link.bin").symlink_to(tiny_bundle.parent / "weights.bin")
    (tiny_bundle / "beside.bin").write_bytes(weights)
    replace_file(tiny_bundle, MODEL, _with_weights_at(tiny_bundle / MODEL, place))
    assert "which its manifest does not list" in refusal(tiny_bundle)


def test_a_heads_own_graph_is_looked_through_as_the_common_one_is(tiny_bundle: Path) -> None:
    (tiny_bundle / "beside.bin").write_bytes(np.full(1024, 255, np.float32).tobytes())
    replace_file(tiny_bundle, head_graph("brain"), _with_weights_at(tiny_bundle / MODEL, "beside.bin"))
    line = refusal(tiny_bundle)
    assert "which its manifest does not list" in line and "model.brain.onnx" in line


def test_weights_in_a_listed_file_are_fine_and_checked(tiny_bundle: Path) -> None:
    from madclip_runtime.engines import load_engine

    replace_file(tiny_bundle, "weights.bin", np.full(1024, 255, np.float32).tobytes())
    replace_file(tiny_bundle, MODEL, _with_weights_at(tiny_bundle / MODEL, "weights.bin"))
    load_engine(Bundle.load(tiny_bundle))
    (tiny_bundle / "weights.bin").write_bytes(np.full(1024, 1, np.float32).tobytes())
    assert "its SHA-256 is not the manifest's" in refusal(tiny_bundle)


def _with_weights_at(model: Path, place: str) -> bytes:
    import onnx
    from onnx.external_data_helper import set_external_data

    graph = onnx.load(model)
    weight = graph.graph.initializer[0]
    weight.CopyFrom(onnx.numpy_helper.from_array(np.full((32, 32, 1), 255, np.float32), weight.name))
    set_external_data(weight, place, 0, 4096)
    weight.ClearField("raw_data")
    return bytes(graph.SerializeToString())


def test_two_bundles_of_one_content_have_one_digest(tiny: ModuleType, tmp_path: Path) -> None:
    one, two = (Bundle.load(tiny.write_tiny_bundle(tmp_path / name)) for name in ("a.madclip", "b.madclip"))
    assert one.digest == two.digest
    edit_manifest(tmp_path / "b.madclip", lambda manifest: manifest.update(model_id="other"))
    assert Bundle.load(tmp_path / "b.madclip").digest != one.digest


def test_the_manifest_lists_hashes_in_the_open(tiny_bundle: Path) -> None:
    parsed = json.loads((tiny_bundle / MANIFEST).read_bytes())
    for name in LISTED:
        data = (tiny_bundle / name).read_bytes()
        assert parsed["files"][name] == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
