"""Pretraining of nano: seeded images, a student that nears its teacher, runs that go on, words that mean something."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from madclip.encoder import Encoder, load_encoder
from madclip.nano.captions import OBJECTS, CaptionConfig, _moves, _soft_loss, draw, learn_captions
from madclip.nano.distil import DistilConfig, Distiller, Phase, Step, _sections
from madclip.nano.pictures import PICTURES, load_pictures
from madclip.nano.pretrain import Curve, distil, save_weights
from madclip.nano.textures import KINDS, draw_canvas
from madclip.nano.views import Sources, make_batch
from madclip_runtime.errors import UsageError

TINY = DistilConfig(phases=(Phase(32, 2, 2, taps=1), Phase(32, 2, 2), Phase(48, 2, 2)), warmup=1, survey=2)


def shallow(layers: int, folder: Path, **vision: object) -> Encoder:
    """nano's shape with other blocks, random weights."""
    config = json.loads(resources.files("madclip").joinpath("nano/nano.json").read_text())
    config["vision_cfg"] |= {"layers": layers, **vision}
    config["text_cfg"]["layers"] = 1
    path = folder / f"shallow{layers}.json"
    path.write_text(json.dumps(config))
    return load_encoder(str(path), "random")


def noise_views(step: int, phase: Phase) -> Tensor:
    return torch.rand(phase.batch, 3, phase.size, phase.size, generator=torch.Generator().manual_seed(step))


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
    student, teacher = shallow(8, tmp_path), shallow(12, tmp_path)
    distiller = Distiller(
        student, teacher, replace(TINY, phases=(Phase(64, 4, 30), Phase(64, 4, 10)), survey=60, hand_over=(2, 3))
    )
    steps = list(distiller.run(noise_views))
    assert [step.step for step in steps] == list(range(40))
    assert all(len(step.unexplained) == 6 for step in steps), "the embedding, the first block, and four taps"
    early, late = (np.mean([s.unexplained for s in part], axis=0) for part in (steps[:3], steps[-3:]))
    assert early[0] < 0.3, "the embedding is fitted before the first step"
    assert (late[1:] < early[1:]).all(), f"{early} → {late}"
    with torch.no_grad():
        images = torch.rand(1, 3, 240, 240, generator=torch.Generator().manual_seed(1))
        seen = _sections(student, images, torch.arange(226), student.spec.taps)
        for tap, section in zip(student.taps(images), seen, strict=True):
            assert torch.allclose(tap, section[:, 1:], atol=1e-5), "what was taught is what the encoder gives"


def test_the_first_phase_moves_only_what_the_first_tap_needs(tmp_path: Path) -> None:
    student, teacher = shallow(8, tmp_path), shallow(12, tmp_path)
    run = Distiller(student, teacher, TINY).run(noise_views)
    first = next(run)
    later = {name: t.clone() for name, t in taught(student).items() if ".resblocks." in name}
    assert len(first.unexplained) == 3 and len(next(run).unexplained) == 3
    moved = {
        int(name.split(".")[3]) for name, t in taught(student).items() if name in later and not t.equal(later[name])
    }
    assert moved == {0, 1}
    assert len(next(run).unexplained) == 6


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
            shallow(4, tmp_path), teacher, [], replace(TINY, phases=(Phase(32, 2, 2),)), state=state, say=said.append
        )
        for _ in range(2)
    ]
    assert curves[0].rows == curves[1].rows and len(curves[0].rows) == 1
    assert said[-1] == "going on after step 2"


def test_a_teacher_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nano's are"):
        Distiller(shallow(4, tmp_path), shallow(8, tmp_path, width=128), TINY)


def test_rates_rise_hold_and_fall_and_sections_are_handed_over() -> None:
    config = DistilConfig.of_steps(200)
    assert config.steps == 200 and [phase.size for phase in config.phases] == [128, 128, 240]
    assert [config.phase_at(step).taps for step in (0, 59, 60, 199)] == [1, 1, 4, 4]
    rates = [config.rate_at(step) for step in range(200)]
    assert rates[config.warmup - 1] == rates[159] == config.learning_rate
    assert rates[0] < 0.05 * config.learning_rate and rates[-1] < 0.05 * config.learning_rate
    shares = [config.own_share_at(step) for step in range(200)]
    assert shares[:74] == [0.0] * 74 and shares[130:] == [1.0] * 70 and shares == sorted(shares)


def test_the_curve_is_a_table(tmp_path: Path) -> None:
    curve = Curve()
    curve.add([Step(0, 32, (0.5,)), Step(1, 32, (0.3,))])
    curve.add([Step(2, 32, (0.2,)), Step(3, 48, (0.4, 0.25))])
    curve.write(tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text() == "step,size_px,section0,section1\n2,32,0.4\n4,48,0.4,0.25\n"


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
