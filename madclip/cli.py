"""`madclip train | evaluate | ablate | import-authors | prepare | phantoms | pretrain-nano | export`.

A command is a function; torch waits for one that needs it.
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from madclip.config import DEFAULT_ENCODER
from madclip.nano.command import pretrain_nano
from madclip.prepare.command import app as _prepare
from madclip_runtime.errors import EXIT_INTERRUPTED, MadclipError, OutputNotWritten, UsageError
from madclip_runtime.manifest import Calibration

__all__ = ["app", "main"]

# BadParameter's base, by whichever click typer stands on: its own copy in newer versions, the package in older ones
_UsageFault: Any = typer.BadParameter.__mro__[1]

_PARTIAL = "abnormal images may lack a mask; they train and test the image score only"
_AS_PAPER = "nothing the paper lacks: no smoothed map, no mean of late weights, the authors' score"
_DEVICE = "cpu, cuda, or auto: CUDA where there is one"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(_prepare, name="prepare")
app.command("pretrain-nano")(pretrain_nano)


@app.callback()
def _madclip() -> None:
    """Few-shot medical anomaly detection: a few labelled images to a checkpoint. Research use, not a medical device."""


@app.command()
def train(
    data: Annotated[Path, typer.Option(help="folder in the <Name>_AD layout")],
    out: Annotated[Path, typer.Option(help="checkpoint to write, e.g. x.pt")],
    shots: Annotated[int, typer.Option(help="labelled images of each class")] = 16,
    seed: Annotated[int, typer.Option(help="draws the shots, the jitter, the start and the order")] = 111,
    epochs: Annotated[int, typer.Option()] = 60,
    encoder: Annotated[str, typer.Option(help="open_clip name, config.json, or nano")] = DEFAULT_ENCODER,
    weights: Annotated[str | None, typer.Option(help="weights file, hub tag, or random")] = None,
    objective: Annotated[str | None, typer.Option(help="what the images show; default by data set name")] = None,
    prompts: Annotated[str, typer.Option(help="which prompts learn: both, abnormal or fixed (ablation a)")] = "both",
    branches: Annotated[str, typer.Option(help="dual, or shared (ablation c)")] = "dual",
    subtraction: Annotated[bool, typer.Option(help="subtract the opposite class; not: ablation d")] = True,
    loss: Annotated[str, typer.Option(help="image loss: siglip, or softmax (ablation e)")] = "siglip",
    heads: Annotated[str, typer.Option(help="separate, or common (ablation f)")] = "separate",
    shot_list: Annotated[Path | None, typer.Option(help="shots by a list in the authors' format")] = None,
    list_index: Annotated[int, typer.Option(help="which lines of that list, n-I and a-I")] = 0,
    allow_unbalanced: Annotated[bool, typer.Option("--allow-unbalanced", help="the list may be uneven")] = False,
    feature_memory_gb: Annotated[float, typer.Option(help="features past this go to a file")] = 4.0,
    feature_cache: Annotated[Path | None, typer.Option(help="folder where features are kept for other runs")] = None,
    log: Annotated[Path | None, typer.Option(help="CSV with one line an epoch")] = None,
    partial_masks: Annotated[bool, typer.Option("--partial-masks", help=_PARTIAL)] = False,
    image_score: Annotated[str, typer.Option(help="auto (docs/method.md), authors, det, map_max, blend")] = "auto",
    as_paper: Annotated[bool, typer.Option("--as-paper", help=_AS_PAPER)] = False,
    device: Annotated[str, typer.Option(help=_DEVICE)] = "auto",
    mixed_precision: Annotated[bool, typer.Option("--mixed-precision", help="half-precision products")] = False,
) -> None:
    """Learn adapters and prompts from a few labelled images."""
    from madclip.config import AVERAGE_LAST, MAP_SMOOTHING_PX, MethodConfig, TrainConfig, objective_for
    from madclip.data import open_dataset
    from madclip.device import choose_place
    from madclip.encoder import load_encoder
    from madclip.features import FeatureCache
    from madclip.train import Surroundings
    from madclip.train import train as run

    _check_parent(out)
    place = choose_place(device, mixed=mixed_precision)
    config = TrainConfig(
        shots=shots,
        seed=seed,
        epochs=epochs,
        shot_list=str(shot_list or ""),
        list_index=list_index,
        allow_unbalanced=allow_unbalanced,
        device=place.device,
        precision=place.precision,
        average_last=1 if as_paper else AVERAGE_LAST,
        image_score="authors" if as_paper and image_score == "auto" else image_score,
    )
    dataset = open_dataset(data, partial_masks=partial_masks)
    named, known = objective_for(dataset.name)
    method = MethodConfig(
        objective or named,
        prompts=prompts,
        branches=branches,
        subtraction=subtraction,
        image_loss=loss,
        heads=heads,
        map_smoothing_px=0.0 if as_paper else MAP_SMOOTHING_PX,
    )
    if objective is None and not known:
        _say(f"objective: {named!r}, since {dataset.name!r} names no set of the paper (--objective says otherwise)")
    loaded = load_encoder(encoder, weights).to(place.torch_device)
    _say_encoder(loaded.spec.name, loaded.spec.random)
    _say(f"computing on {place.words()}")
    if dataset.synthetic:
        _say("the data are synthetic phantoms, not patients")
    start = time.perf_counter()
    around = Surroundings(
        budget_bytes=int(feature_memory_gb * 1e9),
        cache=None if feature_cache is None else FeatureCache(feature_cache),
        state=out.with_name(out.name + ".training"),
        log=log,
        say=_say,
    )
    checkpoint = run(dataset, loaded, method, config, around)
    checkpoint.save(out)
    out.with_name(out.name + ".training").unlink(missing_ok=True)
    _say_calibration(checkpoint.card.calibration)
    made = checkpoint.card.data
    counts = f"{made.normal_shots} normal and {made.abnormal_shots} abnormal images"
    print(f"{out}: trained on {counts} in {time.perf_counter() - start:.1f} s")


@app.command()
def evaluate(
    ckpt: Annotated[list[Path], typer.Option(help="checkpoint from madclip train; several: mean ± std over seeds")],
    data: Annotated[list[Path], typer.Option(help="folder in the <Name>_AD layout, its test split; may be repeated")],
    out: Annotated[Path | None, typer.Option(help="folder for tables, plots and pictures of the test images")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="also write the figures here")] = None,
    weights: Annotated[str | None, typer.Option(help="the encoder's weights file, if it moved")] = None,
    partial_masks: Annotated[bool, typer.Option("--partial-masks", help=_PARTIAL)] = False,
    device: Annotated[str, typer.Option(help=_DEVICE)] = "auto",
) -> None:
    """Image and pixel figures on the test images of one data set or several."""
    from madclip.device import choose_place
    from madclip.evaluation import evaluate_all, summary_lines

    if json_ is not None:
        _check_parent(json_)
    place = choose_place(device)
    results = evaluate_all(
        ckpt, data, weights=weights, out=out, json_file=json_, say=_say, place=place, partial_masks=partial_masks
    )
    for name, random in dict.fromkeys((r.checkpoint.card.encoder.name, r.encoder_random) for r in results):
        _say_encoder(name, random)
    for result in results:
        for note in result.notes:
            _say(f"{result.name} on {result.dataset}: {note}")
        if len(results) > 1:
            print(f"{result.name}:")
        print("\n".join(result.lines()))
    for line in summary_lines(results):
        print(line)


@app.command()
def ablate(
    data: Annotated[Path, typer.Option(help="folder in the <Name>_AD layout")],
    seeds: Annotated[int, typer.Option(help="how many: 111, 222, 333, ...")] = 3,
    shots: Annotated[int, typer.Option(help="labelled images of each class")] = 16,
    epochs: Annotated[int, typer.Option()] = 60,
    encoder: Annotated[str, typer.Option(help="open_clip name, config.json, or nano")] = DEFAULT_ENCODER,
    weights: Annotated[str | None, typer.Option(help="weights file, hub tag, or random")] = None,
    objective: Annotated[str | None, typer.Option(help="what the images show; default by data set name")] = None,
    feature_cache: Annotated[Path | None, typer.Option(help="folder where features are kept for other runs")] = None,
    partial_masks: Annotated[bool, typer.Option("--partial-masks", help=_PARTIAL)] = False,
    device: Annotated[str, typer.Option(help=_DEVICE)] = "auto",
) -> None:
    """Train and evaluate the paper's ablations (a) to (f), and list what each costs."""
    from madclip.ablate import ablate as run
    from madclip.ablate import table
    from madclip.config import MethodConfig, TrainConfig, objective_for
    from madclip.data import open_dataset
    from madclip.device import choose_place
    from madclip.encoder import load_encoder

    if seeds < 1:
        raise UsageError(f"--seeds {seeds}", "must be at least 1")
    place = choose_place(device)
    config = TrainConfig(shots=shots, epochs=epochs, device=place.device, image_score="authors")
    dataset = open_dataset(data, partial_masks=partial_masks)
    loaded = load_encoder(encoder, weights).to(place.torch_device)
    _say_encoder(loaded.spec.name, loaded.spec.random)
    method = MethodConfig(objective or objective_for(dataset.name)[0])
    chosen = [111 * (i + 1) for i in range(seeds)]
    print(table(run(dataset, loaded, method, config, chosen, cache=feature_cache, say=_say)))


@app.command("import-authors")
def import_authors(
    file: Annotated[Path, typer.Argument(help="the authors' checkpoint, e.g. Brain.pth")],
    dataset: Annotated[str, typer.Option(help="which of their sets it is, e.g. Brain")],
    out: Annotated[Path, typer.Option(help="checkpoint to write, e.g. brain.pt")],
    encoder: Annotated[str, typer.Option(help="the encoder they trained on")] = DEFAULT_ENCODER,
    weights: Annotated[str | None, typer.Option(help="its weights: a file, or a hub tag")] = None,
) -> None:
    """Turn a checkpoint of the MadCLIP authors into one of ours, their code's habits recorded in it."""
    from madclip.authors import import_authors as run
    from madclip.authors import with_their_habits
    from madclip.encoder import load_encoder

    _check_parent(out)
    loaded = with_their_habits(load_encoder(encoder, weights, quick_gelu=False))
    _say_encoder(loaded.spec.name, loaded.spec.random)
    checkpoint = run(file, dataset, loaded)
    checkpoint.save(out)
    _say_calibration(checkpoint.card.calibration)
    print(f"{out}: imported, image score by {checkpoint.card.image_score}")


@app.command()
def phantoms(
    out: Annotated[Path, typer.Option(help="folder to make")],
    normal: Annotated[int, typer.Option(help="images without a lesion, half of them for validation")] = 40,
    abnormal: Annotated[int, typer.Option(help="images with one")] = 40,
    seed: Annotated[int, typer.Option(help="not 0 or 1 to judge nano by: its pretraining saw some of those")] = 2,
) -> None:
    """Write synthetic brain-like slices with exact lesion masks. They are not patients."""
    from madclip.phantoms import write_phantoms

    made = write_phantoms(out, normal=normal, abnormal=abnormal, seed=seed)
    halves = f"valid {made.valid[0]} + {made.valid[1]}, test {made.test[0]} + {made.test[1]}"
    print(f"{made.root}: synthetic phantoms, {halves}")


def _export_is_elsewhere() -> None:
    """Make a bundle (needs madclip-export)."""
    raise UsageError("madclip export", "madclip-export is not installed", 'pip install "madclip-export[cpu]"')


def main() -> int:
    """Join the commands that other distributions bring, run, and turn refusals into one line and an exit code."""
    _join_commands()
    try:
        code = typer.main.get_command(app).main(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except MadclipError as error:
        _say(error.line())
        return error.exit_code
    except _UsageFault as error:
        error.show()
        return UsageError.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED


def _join_commands() -> None:
    found = {point.name: point for point in entry_points(group="madclip.commands")}
    for name, point in sorted(found.items()):
        app.command(name)(point.load())
    if "export" not in found:
        anything = {"allow_extra_args": True, "ignore_unknown_options": True}
        app.command("export", context_settings=anything)(_export_is_elsewhere)


def _check_parent(path: Path) -> None:
    """Say before the work, not after it, that the result has no place to go."""
    if not path.resolve().parent.is_dir():
        raise OutputNotWritten(str(path), "its folder does not exist", f"mkdir -p {path.parent}")
    if path.is_dir():
        raise OutputNotWritten(str(path), "is a folder", "name a file")


def _say_calibration(calibration: Calibration) -> None:
    if not calibration.points:
        _say(f"uncalibrated: {calibration.reason}")
    for name, point in calibration.points.items():
        sens, spec = point.sensitivity, point.specificity
        _say(
            f"{name}: threshold {point.threshold:.4f}; sensitivity {sens.k}/{sens.n} (≥ {100 * sens.low:.0f} %), "
            f"specificity {spec.k}/{spec.n} (≥ {100 * spec.low:.0f} %) on {calibration.reason}"
        )
    for name, why in calibration.refused.items():
        _say(f"{name} refused: {why}")


def _say_encoder(name: str, random: bool) -> None:
    _say(f"encoder {name}" + (": RANDOM WEIGHTS, never trained; a test of the pipeline only" if random else ""))


def _say(line: str) -> None:
    print(f"madclip: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
