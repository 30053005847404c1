"""`madclip prepare nifti | dicom | folder | check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # the work is imported by the command that does it; `madclip --help` stays quick
    from madclip.prepare.layout import SplitOptions
    from madclip.prepare.sample import Findings, Plan

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Turn data as they come into the <Name>_AD layout.")

_Out = Annotated[Path, typer.Option(help="folder to make, named <Name>_AD")]
_Share = Annotated[float, typer.Option(help="of each class's images; a patient is never in both splits")]
_Seed = Annotated[int, typer.Option(help="draws the patients of each split")]
_Masks = Annotated[Path | None, typer.Option(help="folder of the table's mask column")]


@app.command()
def nifti(
    images: Annotated[Path, typer.Option(help="folder of volumes, .nii or .nii.gz")],
    labels: Annotated[Path, typer.Option(help="folder of label maps under the same names")],
    out: _Out,
    window: Annotated[str, typer.Option(help="brain, liver, lung (HU), percentile (MR), or LOW,HIGH")],
    lesion_label: Annotated[list[int] | None, typer.Option(help="repeat for more; default any above 0")] = None,
    axis: Annotated[int, typer.Option(help="0 sagittal, 1 coronal, 2 axial")] = 2,
    patients: Annotated[Path | None, typer.Option(help="CSV file,patient[,split]; default a volume a patient")] = None,
    min_lesion_pixels: Annotated[int, typer.Option(help="least lesion of an abnormal slice")] = 50,
    gap: Annotated[int, typer.Option(help="slices between a normal slice and any lesion")] = 5,
    per_volume: Annotated[int | None, typer.Option(help="most slices of each class from one volume")] = None,
    tolerance: Annotated[float, typer.Option(help="of relative position between paired slices")] = 0.05,
    test_share: _Share = 0.5,
    seed: _Seed = 0,
) -> None:
    """Volumes with label maps: lesion slices, and normal ones at the same heights."""
    from madclip.prepare.layout import SplitOptions, check_out
    from madclip.prepare.sample import Findings
    from madclip.prepare.volumes import SliceOptions, plan_nifti
    from madclip_runtime.window import parse_window

    lesions = tuple(sorted(set(lesion_label or ())))
    options = SliceOptions(parse_window(window), axis, lesions, min_lesion_pixels, gap, per_volume, tolerance)
    split, findings = SplitOptions(test_share, seed), Findings()
    check_out(out)
    _write(out, plan_nifti(images, labels, patients, options, split, findings), findings, split)


@app.command()
def dicom(
    series: Annotated[list[Path], typer.Option(help="folder of DICOM files; repeat for more")],
    labels: Annotated[Path, typer.Option(help="CSV: file, sop_uid or series_uid; label[, mask, patient, split]")],
    out: _Out,
    window: Annotated[str, typer.Option(help="file, brain, liver, lung (HU), percentile, or LOW,HIGH")] = "file",
    masks: _Masks = None,
    test_share: _Share = 0.5,
    seed: _Seed = 0,
) -> None:
    """Single-frame DICOM files with a table of labels. No name, ID or UID is written."""
    from madclip.prepare.dicom_series import plan_dicom
    from madclip.prepare.layout import SplitOptions, check_out
    from madclip.prepare.sample import Findings
    from madclip_runtime.window import parse_window

    chosen, split, findings = parse_window(window, from_file=True), SplitOptions(test_share, seed), Findings()
    check_out(out)
    _write(out, plan_dicom(series, labels, masks, chosen, findings), findings, split)


@app.command()
def folder(
    images: Annotated[Path, typer.Option(help="folder of images")],
    labels: Annotated[Path, typer.Option(help="CSV: file, label[, patient, mask, split]")],
    out: _Out,
    masks: _Masks = None,
    test_share: _Share = 0.5,
    seed: _Seed = 0,
) -> None:
    """Images with a table of labels, stored without loss as PNG."""
    from madclip.prepare.folder import plan_folder
    from madclip.prepare.layout import SplitOptions, check_out
    from madclip.prepare.sample import Findings

    split, findings = SplitOptions(test_share, seed), Findings()
    check_out(out)
    _write(out, plan_folder(images, labels, masks, findings), findings, split)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="folder in the <Name>_AD layout", metavar="X_AD")],
    json_: Annotated[Path | None, typer.Option("--json", help="also write the figures here")] = None,
) -> None:
    """Say what gives the label away without looking for a lesion: AUROC of size, brightness, area, position."""
    from madclip.prepare.giveaway import check_folder, give_aways, table, warnings_of
    from madclip_runtime.files import write_whole

    measured = check_folder(data)
    aurocs = give_aways(measured)
    warnings = warnings_of(aurocs, measured)
    if json_ is not None:
        content = {"give_away_auroc": aurocs, "warnings": warnings}
        write_whole(json_, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    for line in table(aurocs):
        typer.echo(line)
    _say(warnings)


def _write(out: Path, plan: Plan, findings: Findings, split: SplitOptions) -> None:
    from madclip.prepare.giveaway import table
    from madclip.prepare.layout import write_set

    card = write_set(out, plan, findings, split)
    _say(card["notes"] + card["warnings"])
    for name, counts in card["counts"].items():
        typer.echo(f"{out}: {name} " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    typer.echo("AUROC of what gives the label away (0.5 is nothing):")
    for line in table(card["give_away_auroc"]):
        typer.echo(line)


def _say(lines: list[str]) -> None:
    for line in lines:
        typer.echo(f"madclip: {line}", err=True)
