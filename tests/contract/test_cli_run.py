"""`madclip-run` from its arguments to its exit code: every file gets its line, stdout is data and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bundle_edits import edit_manifest
from image_files import noise, saved
from PIL import Image

from madclip_runtime import __version__
from madclip_runtime.cli import main

REFUSED = "madclip-run: refused "


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts in an empty folder of its own, with no bundle set, and a cache of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MADCLIP_BUNDLE", raising=False)
    monkeypatch.setenv("MADCLIP_CACHE", str(tmp_path / "cache"))


def image(name: str, level: int = 200) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(saved(np.full((40, 60), level, np.uint8), "PNG"))
    return name


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def in_a_process(*arguments: str | Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "madclip_runtime.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **(environment or {})}, check=False
    )


def test_a_line_and_an_overlay_for_each_image(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--bundle", tiny_bundle, image("dark.png", 51), image("light.png", 204), "--out", "out") == 0
    stdout, stderr = capsys.readouterr()
    assert stdout.splitlines() == [
        "dark.png: score 0.2000 normal (threshold 0.5000, test) -> out/dark.overlay.png",
        "light.png: score 0.8000 abnormal (threshold 0.5000, test) -> out/light.overlay.png",
    ]
    for name in ("dark", "light"):
        with Image.open(f"out/{name}.overlay.png") as overlay:
            assert overlay.format == "PNG" and overlay.size == (2 * 384, 256 + 118)
    talk = stderr.splitlines()
    assert all(line.startswith("madclip-run: ") for line in talk)
    assert (
        talk[0] == "madclip-run: engine auto: cpu, since cuda did not come up: this ONNX Runtime has no CUDA provider"
    )
    assert talk[1] == "madclip-run: research use, not a medical device"
    assert any("tiny-brightness, fp32, on onnxruntime-cpu" in line for line in talk)


def test_json_is_one_line_for_each_file_refused_ones_too(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("cut.png").write_bytes(saved(noise(), "PNG")[:300])
    files = [image("a.png"), "cut.png", "none.png", image("b.png", 10)]
    assert run("--bundle", tiny_bundle, "--json", *files) == 3
    stdout, stderr = capsys.readouterr()
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert [line["file"] for line in lines] == files
    asked_for = {"file", "score", "decision", "threshold", "map_max", "engine", "precision", "bundle"}
    assert set(lines[0]) > asked_for and lines[0]["decision"] == "abnormal" and lines[3]["decision"] == "normal"
    assert lines[0]["overlay"] == "madclip-out/a.overlay.png" and Path(lines[0]["overlay"]).is_file()
    assert lines[0]["notices"][0] == "research use, not a medical device"
    refused = lines[1]["refused"]
    assert refused["name"] == "InputRefused" and "truncated" in refused["why"] and refused["do"]
    assert lines[2] == {
        "format": "madclip-result/2",
        "file": "none.png",
        "refused": {"name": "InputRefused", "why": "no such file", "do": "name an image file or a folder of images"},
    }
    said = [line for line in stderr.splitlines() if line.startswith(REFUSED)]
    assert len(said) == 2 and said[0].startswith(f"{REFUSED}cut.png: ")


def test_without_json_a_refused_file_is_only_talked_about(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.png").touch()
    assert run("--bundle", tiny_bundle, "empty.png", image("a.png")) == 3
    stdout, stderr = capsys.readouterr()
    assert len(stdout.splitlines()) == 1 and stdout.startswith("a.png: score")
    assert stderr.count(REFUSED) == 1 and not Path("madclip-out/empty.overlay.png").exists()


def test_the_score_is_the_detectors(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from madclip_runtime import Detector

    Path("x.png").write_bytes(saved(noise(), "PNG"))
    assert run("--bundle", tiny_bundle, "--json", "x.png") == 0
    line = json.loads(capsys.readouterr().out)
    assert line["score"] == Detector.load(tiny_bundle)("x.png").score


def test_a_nested_folder_and_names_that_meet(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("scans/a.png", "scans/a.jpg", "scans/deep/a.png", "scans/notes.txt"):
        image(name)
    for _ in range(2):  # the second time there are overlays already
        assert run("--bundle", tiny_bundle, "--json", "scans", "--out", "scans/out") == 0
        stdout, stderr = capsys.readouterr()
        lines = [json.loads(line) for line in stdout.splitlines()]
        assert [line["file"] for line in lines] == ["scans/a.jpg", "scans/a.png", "scans/deep/a.png"]
        overlays = [line["overlay"] for line in lines]
        assert overlays == [f"scans/out/{name}.overlay.png" for name in ("a", "a-2", "deep/a")]
        assert all(Path(overlay).is_file() for overlay in overlays)
        assert "1 file(s) in the folder(s) have no image ending" in stderr


def test_overlays_beside_the_images_are_not_read_again(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image("scans/a.png")
    for out in ("scans", "scans", "."):
        assert run("--bundle", tiny_bundle, "scans", "--out", out) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_folder_without_images_does_not_stop_the_others(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert run("--bundle", tiny_bundle, "--json", "empty", image("a.png")) == 3
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["file"] for line in lines] == ["empty", "a.png"]
    assert lines[0]["refused"]["why"] == "no image in this folder" and "score" in lines[1]


def test_the_bundle_is_found(tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image("a.png")
    tiny.write_tiny_bundle(Path("only.madclip"))
    assert run("a.png") == 0
    tiny.write_tiny_bundle(Path("second.madclip"))
    assert run("a.png") == 2
    monkeypatch.setenv("MADCLIP_BUNDLE", str(Path("second.madclip").resolve()))
    assert run("a.png") == 0


def test_no_bundle_names_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(image("a.png")) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == "" and len(stderr.splitlines()) == 1
    assert "madclip export --ckpt x.pt --fp16" in stderr
    assert "madclip-run --bundle x-fp16.madclip image.png" in stderr


@pytest.mark.parametrize("threshold", ["nan", "2", "-1"])
def test_an_impossible_threshold(tiny_bundle: Path, threshold: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--bundle", tiny_bundle, image("a.png"), f"--threshold={threshold}") == 2
    assert "a score lies in 0–1" in capsys.readouterr().err


def test_a_given_threshold_decides(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--bundle", tiny_bundle, image("a.png", 204), "--threshold", "0.9") == 0
    assert "score 0.8000 normal (threshold 0.9000, given)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["--frobnicate", "a.png"], ["a.png", "--threshold", "high"], ["a.png", "--doctor"]]
)
def test_a_wrong_call_leaves_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == "" and "usage: madclip-run" in stderr


def test_an_uncalibrated_bundle_says_so(tiny: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny.write_tiny_bundle(tmp_path / "raw.madclip", threshold=None)
    assert run("--bundle", bundle, image("a.png", 204)) == 0
    stdout, stderr = capsys.readouterr()
    assert stdout == "a.png: score 0.8000 uncalibrated -> madclip-out/a.overlay.png\n"
    assert "uncalibrated, scores only: a test bundle without a threshold" in stderr


def test_a_damaged_bundle_leaves_with_4_before_anything_is_written(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_bundle / "model.onnx").write_bytes(b"")
    assert run("--bundle", tiny_bundle, image("a.png")) == 4
    stdout, stderr = capsys.readouterr()
    assert stdout == "" and len(stderr.splitlines()) == 1 and not Path("madclip-out").exists()


def test_a_missing_engine_leaves_with_5(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run("--bundle", tiny_bundle, image("a.png")) == 5
    assert 'pip install "madclip-runtime[cpu]"' in capsys.readouterr().err


def test_a_fault_of_ours_leaves_with_6_and_one_line(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("madclip_runtime.overlay.overlay_png", broken)
    assert run("--bundle", tiny_bundle, image("a.png")) == 6
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "madclip-run: internal fault, please report it: RuntimeError: first second"


def test_an_interrupt_leaves_with_130(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("madclip_runtime.overlay.overlay_png", interrupted)
    assert run("--bundle", tiny_bundle, image("a.png")) == 130


def test_a_file_in_the_way_of_the_output_leaves_with_7(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").write_text("a file of mine")
    assert run("--bundle", tiny_bundle, image("a.png"), "--out", "out") == 7
    assert run("--bundle", tiny_bundle, image("a.png"), "--out", "out/below") == 7
    assert Path("out").read_text() == "a file of mine" and capsys.readouterr().out == ""


def test_a_folder_in_the_way_of_an_overlay_leaves_with_7(tiny_bundle: Path) -> None:
    Path("out/a.overlay.png").mkdir(parents=True)
    assert run("--bundle", tiny_bundle, image("a.png"), "--out", "out") == 7
    assert [path.name for path in Path("out").iterdir()] == ["a.overlay.png"]


def test_strangers_names_stay_one_line_each(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["new\nline.png", "\x1b[31mred.png", os.fsdecode(b"not-utf8-\xff.png"), "x" * 240 + ".png", "y" * 300]
    for name in names[:4]:
        image(name)
    assert run("--bundle", tiny_bundle, *names) == 3
    stdout, stderr = capsys.readouterr()
    assert len(stdout.splitlines()) == 4 and stderr.count(REFUSED) == 1
    assert stdout.replace("\n", "").isprintable() and stderr.replace("\n", "").isprintable()
    assert run("--bundle", tiny_bundle, "--json", *names) == 3
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == names


def test_a_strangers_bundle_can_not_colour_the_terminal(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def hostile(manifest: dict) -> None:
        manifest["model_id"] = "\x1b[2Jgone\nmadclip-run: all is well"
        manifest["notices"].append("\x1b]0;title\x07")
        manifest["heads"]["brightness"]["calibration"]["points"]["\x1b[1m\n"] = manifest["heads"]["brightness"][
            "calibration"
        ]["points"].pop("test")
        manifest["heads"]["brightness"]["calibration"]["default"] = "\x1b[1m\n"

    edit_manifest(tiny_bundle, hostile)
    assert run("--bundle", tiny_bundle, image("a.png")) == 0
    stdout, stderr = capsys.readouterr()
    assert len(stdout.splitlines()) == 1 and len(stderr.splitlines()) == 5
    assert (stdout + stderr).replace("\n", "").isprintable()


def test_a_terminal_is_told_how_far_a_run_is() -> None:
    import io

    from madclip_runtime.run import Counter

    terminal = io.StringIO()
    counter = Counter(terminal)
    for _ in range(500):
        counter.step()
    counter.clear()
    assert terminal.getvalue().startswith("\r1 done, ") and terminal.getvalue().endswith("\r\x1b[K")
    assert terminal.getvalue().count("done") < 100


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"madclip-run {__version__}\n"


def test_as_a_process_stdout_is_data_and_stderr_is_talk(tiny_bundle: Path) -> None:
    done = in_a_process("--bundle", tiny_bundle, "--json", image("a.png"), "none.png")
    assert done.returncode == 3
    assert [("refused" in json.loads(line)) for line in done.stdout.splitlines()] == [False, True]
    assert all(line.startswith("madclip-run: ") for line in done.stderr.splitlines())


def test_a_terminal_that_knows_only_ascii_gets_escapes_not_a_fault(tiny_bundle: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = in_a_process("--bundle", tiny_bundle, image("größe.png"), environment=environment)
    assert done.returncode == 0
    assert done.stdout.startswith("gr\\xf6\\xdfe.png: score")


def test_a_reader_that_goes_away_is_no_fault(tiny_bundle: Path) -> None:
    for index in range(40):
        image(f"scans/{index:02}.png")
    command = [sys.executable, "-m", "madclip_runtime.cli", "--bundle", str(tiny_bundle), "scans"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("scans/00.png: score")
        process.stdout.close()
        talk = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert "Traceback" not in talk and "BrokenPipe" not in talk
    assert len(list(Path("madclip-out").iterdir())) < 40


_GUARDED = """
import sys
def guard(event, arguments):
    if event.startswith(("socket.", "urllib.", "ftplib.", "http.")):
        print("NETWORK", event, arguments, file=sys.stderr, flush=True)
        import os
        os._exit(99)
sys.addaudithook(guard)
if sys.argv[1] == "dial":
    import socket
    socket.socket()
from madclip_runtime.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_no_python_code_opens_a_socket(tiny_bundle: Path) -> None:
    """Sees Python's sockets only; what a C library does needs a machine without a network to show."""

    def guarded(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _GUARDED, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert guarded("dial").returncode == 99  # the guard itself works
    done = guarded("--bundle", str(tiny_bundle), "--json", image("a.png"), "none.png")
    assert (done.returncode, "NETWORK" in done.stderr) == (3, False)
