"""Pretraining of nano: seeded images, a student that nears its teacher, runs that go on, words that mean something."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from madclip.cli import app
from madclip.encoder import Encoder, load_encoder
from madclip.nano.captions import OBJECTS, CaptionConfig, _moves, _soft_loss, draw, learn_captions
from madclip.nano.distil import Batch, DistilConfig, Distiller, Step, _tokens
from madclip.nano.pictures import PICTURES, load_pictures
from madclip.nano.pretrain import Curve, distil, save_weights
from madclip.nano.textures import KINDS, draw_canvas
from madclip.nano.views import Sources, make_batch
from madclip_runtime.errors import OutputNotWritten, UsageError

TINY = DistilConfig(steps=6, windows=Batch(32, 2), whole=Batch(48, 2), warmup=1, survey=1)


def shallow(layers: int, folder: Path, **vision: object) -> Encoder:
    """nano's shape with other blocks, random weights."""
    config = json.loads(resources.files("madclip").joinpath("nano/nano.json").read_text())
    config["vision_cfg"] |= {"layers": layers, **vision}
    config["text_cfg"]["layers"] = 1
    path = folder / f"shallow{layers}.json"
    path.write_text(json.dumps(config))
    return load_encoder(str(path), "random")


def noise_views(step: int, batch: Batch) -> Tensor:
    return torch.rand(batch.count, 3, batch.size, batch.size, generator=torch.Generator().manual_seed(step))


def taught(encoder: Encoder) -> dict[str, Tensor]:
    """What the taps come from."""
    return {name: t.clone() for name, t in encoder.clip.state_dict().items() if not _moves(name)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_canvas_depends_on_seed_and_index_alone(kind: str) -> None:
    one, other = draw_canvas(0, 1, kind, 64)[0], draw_canvas(0, 2, kind, 64)[0]
    assert one.shape == (64, 64, 3) and one.dtype == np.uint8 and one.std() > 0
    assert np.array_equal(one, draw_canvas(0, 1, kind, 64)[0]) and not np.array_equal(one, other)


def test_views_do_not_depend_on_what_was_drawn_before() -> None:
    fresh = make_batch(Sources([], 3, canvases=5, phantoms=2), 3, 7, 4, 32)
    used = Sources([], 3, canvases=5, phantoms=2)
    for step in range(7):
        make_batch(used, 3, step, 2, 32)
    assert np.array_equal(make_batch(used, 3, 7, 4, 32), fresh)
    assert fresh.shape == (4, 3, 32, 32) and fresh.dtype == np.float32 and 0 <= fresh.min() < fresh.max() <= 1


def test_only_free_pictures_are_used_and_all_of_them_are_there() -> None:
    assert all(licence.startswith(("CC0", "public domain")) for licence in PICTURES.values())
    pytest.importorskip("skimage", reason="scikit-image is missing: its pictures were NOT looked at")
    pictures = load_pictures()
    assert len(pictures) == len(PICTURES) and all(p.ndim == 3 and p.shape[2] == 3 for p in pictures)


def test_a_student_nears_its_teacher_and_keeps_what_it_learned(tmp_path: Path) -> None:
    student, teacher = shallow(4, tmp_path), shallow(6, tmp_path)
    distiller = Distiller(student, teacher, replace(TINY, steps=40, windows=Batch(64, 4), whole=Batch(64, 4), survey=4))
    images = noise_views(99, Batch(240, 2))
    run = distiller.run(noise_views)
    steps = [next(run)]
    before = distiller.unexplained(images)
    steps += list(run)
    after = distiller.unexplained(images)
    assert [step.step for step in steps] == list(range(40))
    assert len(after) == 5, "the embedding, and four taps"
    assert after[0] < 0.3, "the embedding is fitted before the first step"
    assert all(late < 0.8 * early for early, late in zip(before[1:], after[1:], strict=True)), f"{before} → {after}"
    with torch.no_grad():
        seen = _tokens(student, images, torch.arange(226), 4)
        for number, tap in zip(student.spec.taps, student.taps(images), strict=True):
            assert torch.allclose(tap, seen[2 * number][:, 1:], atol=1e-5), "what was taught is what the encoder gives"


def test_the_teacher_itself_leaves_nothing_unexplained(tmp_path: Path) -> None:
    teacher = shallow(4, tmp_path)
    distiller = Distiller(shallow(4, tmp_path), teacher, TINY)
    next(distiller.run(noise_views))
    distiller.student.load_state_dict(teacher.state_dict())
    assert max(distiller.unexplained(noise_views(1, Batch(240, 1)))) < 1e-9


def test_half_blocks_begin_where_they_are_told_to(tmp_path: Path) -> None:
    encoder = shallow(4, tmp_path)
    views, places = noise_views(0, Batch(32, 2)), torch.arange(5)
    with torch.no_grad():
        whole = _tokens(encoder, views, places, 2)
        feeds = [torch.zeros_like(tokens) for tokens in whole]
        for number in range(4):
            own = torch.ones(4, 2, dtype=torch.bool)
            own[number, 1] = False
            made = _tokens(encoder, views, places, 2, feeds, own)
            kept = [torch.allclose(m[1], w[1], atol=1e-6) for m, w in zip(made, whole, strict=True)]
            assert kept == [k <= number for k in range(5)], "the second view is cut off behind that half block"
            assert all(torch.allclose(m[0], w[0], atol=1e-6) for m, w in zip(made, whole, strict=True))


def test_the_embedding_and_the_positions_stay_as_fitted(tmp_path: Path) -> None:
    student = shallow(4, tmp_path)
    run = Distiller(student, shallow(6, tmp_path), TINY).run(noise_views)
    next(run)
    early = taught(student)
    list(run)
    moved = {name for name, tensor in taught(student).items() if not torch.equal(tensor, early[name])}
    assert moved and all(".resblocks." in name for name in moved)
    assert {name.split(".resblocks.")[1][0] for name in moved} == set("0123")


def test_an_interrupted_run_ends_with_the_same_numbers(tmp_path: Path) -> None:
    teacher = shallow(8, tmp_path)
    whole, broken, resumed = (Distiller(shallow(4, tmp_path), teacher, TINY) for _ in range(3))
    expected = list(whole.run(noise_views))
    run = broken.run(noise_views)
    first = [next(run) for _ in range(3)]
    torch.save(broken.state(), tmp_path / "state")
    resumed.load_state(torch.load(tmp_path / "state", weights_only=True))
    assert first + list(resumed.run(noise_views)) == expected
    one, other = taught(whole.student), taught(resumed.student)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_finished_state_is_not_learned_again(tmp_path: Path) -> None:
    said: list[str] = []
    teacher, state = shallow(8, tmp_path), tmp_path / "x.training"
    curves = [
        distil(
            shallow(4, tmp_path),
            teacher,
            [],
            replace(TINY, steps=2),
            state=state,
            say=said.append,
        )
        for _ in range(2)
    ]
    assert curves[0].rows == curves[1].rows and len(curves[0].rows) == 1
    assert said[-1] == "going on after step 2"


def test_a_teacher_of_another_width_or_of_fewer_blocks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nano's are"):
        Distiller(shallow(4, tmp_path), shallow(8, tmp_path, width=128), TINY)
    with pytest.raises(UsageError, match="nano's are"):
        Distiller(shallow(8, tmp_path), shallow(4, tmp_path), TINY)


def test_rates_rise_hold_and_fall_and_half_blocks_are_handed_over() -> None:
    config = DistilConfig(200)
    sizes = [config.batch_at(step).size for step in range(200)]
    assert sizes[:160] == [128, 240] * 80 and sizes[160:] == [240] * 40
    rates = [config.rate_share_at(step) for step in range(200)]
    assert rates[config.warmup - 1 : 51] == [1.0] * (52 - config.warmup) and rates[125] == pytest.approx(0.5)
    assert rates[0] < 0.05 and 0 < rates[-1] < 0.05
    shares = [config.own_share_at(step) for step in range(200)]
    assert shares[:51] == [0.0] * 51 and shares[150:] == [1.0] * 50 and shares == sorted(shares)


def test_half_blocks_go_on_from_the_students_own_tokens_only_at_the_end(tmp_path: Path) -> None:
    distiller = Distiller(shallow(4, tmp_path), shallow(4, tmp_path), replace(TINY, steps=100))
    shares = []
    for distiller.step in (0, 50, 99):
        shares.append(float(distiller._own(200).float().mean()))
    assert shares[0] == 0 and 0.4 < shares[1] < 0.6 and shares[2] == 1


@pytest.mark.slow
def test_the_command_leaves_weights_that_load_their_curve_and_no_state(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image is missing: pretraining was NOT tried")
    shallow(8, tmp_path)
    out = tmp_path / "w.safetensors"
    few = ["--steps", "2", "--caption-images", "4", "--caption-steps", "2"]
    arguments = ["--teacher", str(tmp_path / "shallow8.json"), "--teacher-weights", "random", "--out", str(out), *few]
    done = CliRunner().invoke(app, ["pretrain-nano", *arguments])
    assert done.exit_code == 0, done.output
    assert hashlib.sha256(out.read_bytes()).hexdigest() in done.output
    assert not load_encoder(str(resources.files("madclip").joinpath("nano/nano.json")), str(out)).spec.random
    assert (tmp_path / "w.csv").read_text().splitlines()[0] == "step,loss,embedding,tap1,tap2,tap3,tap4"
    assert {path.name for path in tmp_path.iterdir()} == {"shallow8.json", "w.safetensors", "w.csv"}


@pytest.mark.parametrize(("wrong", "kind"), [(["--steps", "0"], UsageError), (["--out", "none/w"], OutputNotWritten)])
def test_the_command_refuses_before_it_works(wrong: list[str], kind: type[Exception]) -> None:
    done = CliRunner().invoke(app, ["pretrain-nano", "--teacher", "x.json", "--out", "w", *wrong])
    assert isinstance(done.exception, kind)


def test_the_curve_is_a_table(tmp_path: Path) -> None:
    curve = Curve()
    curve.add([Step(0, 32, 0.5), Step(1, 32, 0.3)], (0.01, 0.4))
    curve.add([Step(2, 48, 0.2)], (0.01, 0.25))
    curve.write(tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text() == "step,loss,embedding,tap1\n2,0.4,0.01,0.4\n3,0.2,0.01,0.25\n"


def test_weights_come_back_by_half_precision(tmp_path: Path) -> None:
    encoder = load_encoder("nano", "random")
    digest = save_weights(encoder, tmp_path / "w.safetensors", {"seed": 0})
    assert digest == save_weights(encoder, tmp_path / "again.safetensors", {"seed": 0})
    config = resources.files("madclip").joinpath("nano/nano.json")
    loaded = load_encoder(str(config), str(tmp_path / "w.safetensors"))
    images = torch.rand(1, 3, 240, 240, generator=torch.Generator().manual_seed(1))
    for here, there in zip(encoder.taps(images), loaded.taps(images), strict=True):
        assert torch.allclose(here, there, atol=0.02) and not torch.equal(here, there)


def test_drawings_alternate_and_lesions_are_to_be_seen() -> None:
    drawn = [draw(0, index) for index in range(8)]
    assert [drawing.abnormal for drawing in drawn] == [False, True] * 4
    assert {drawing.kind for drawing in drawn} <= set(OBJECTS) and len({d.kind for d in drawn}) > 1
    assert all(drawing.image.shape == (240, 240, 3) for drawing in drawn)


def test_the_caption_loss_is_zero_where_all_true_pairs_share_alike() -> None:
    fits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert float(_soft_loss(40 * fits, fits)) == pytest.approx(0.0, abs=1e-4)
    assert float(_soft_loss(-40 * fits, fits)) > 10


def test_captions_move_words_and_head_and_leave_the_taps() -> None:
    encoder = load_encoder("nano", "random")
    before, words = taught(encoder), encoder.clip.state_dict()["text_projection"].clone()
    loss = learn_captions(encoder, CaptionConfig(images=6, steps=10, batch=6), lambda _: None)
    after = taught(encoder)
    assert np.isfinite(loss) and all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(words, encoder.clip.state_dict()["text_projection"])
