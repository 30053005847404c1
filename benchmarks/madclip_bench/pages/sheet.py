"""What the pages show, as plain tables of text: how it was measured, on what, with what, and what it does not say."""

from __future__ import annotations

from madclip_bench.pages.tables import Table
from madclip_bench.report import Report, Setting
from madclip_bench.rules import Limits
from madclip_bench.words import duration, megabytes, number

__all__ = ["LIMITS", "sheet_tables"]

LIMITS = (
    "It is MLPerf-style, with MLPerf's percentile rule, but it is not an MLPerf result.",
    "Latencies in a row are independent only on a machine that does not drift: look at the steadiness.",
    "Energy, where measured, is that of the part that is named, never of the whole box at the wall.",
    "Accuracy, where measured, holds for the named test images and nothing else.",
    "Hashes show accidents and careless edits; they do not prove who made this report.",
    "Research use, not a medical device.",
)


def sheet_tables(report: Report) -> tuple[Table, ...]:
    """Everything that describes the run."""
    return (_method(report), _machine(report.setting), _bundle(report.setting), _proof(report))


def _method(report: Report) -> Table:
    setting = report.setting
    rules, images = setting.rules, setting.images
    rows = (
        ("rules", f"{rules.style}; {'quick' if rules.quick else 'full'} run, scenarios: {', '.join(rules.scenarios)}"),
        ("one at a time", _limits(rules.single)),
        *((("random arrivals, a rate", _limits(rules.server.limits)),) if rules.wants("server") else ()),
        ("the machine", f"watched every {duration(rules.sample_s)} by a process of its own"),
        (
            "accuracy",
            "by the timed engine itself, after it was timed" if report.figures.accuracy.image_auroc else "none",
        ),
        ("warm-up, not counted", f"at least {rules.warmup_least_ms:.0f} ms and {rules.warmup_least_queries} images"),
        (
            "images",
            f"{images.used} distinct, {images.source}, {megabytes(images.encoded_bytes)}, {images.sha256[:16]}…",
        ),
        (
            "left out",
            f"{len(images.refused)} unreadable, {images.duplicates} duplicates, {images.left_out} beyond the limit",
        ),
        ("seed", f"{rules.seed}; the order of every query is in the JSON"),
        ("started (UTC)", setting.started_utc),
        ("bench", f"madclip-bench {setting.bench_version}"),
    )
    lead = "The same rules for every box. A full run takes at least ten minutes a scenario."
    return Table("method", "How it was measured", lead, ("", ""), rows)


def _limits(limits: Limits) -> str:
    early = "" if limits.enough_queries is None else f", or at {limits.enough_queries} queries if that is sooner"
    if limits.least_queries == 1:
        return f"{duration(limits.least_s)}{early}"
    return f"at least {duration(limits.least_s)} and {limits.least_queries} queries, at most {duration(limits.most_s)}"


def _machine(setting: Setting) -> Table:
    machine, power, gpus = setting.machine, setting.machine.power, setting.machine.gpus
    memory = number(None) if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.1f} GiB"
    cards = [
        f"{card.name}, {megabytes(card.memory_bytes)}, power limit {number(card.power_limit_w)} W"
        for card in gpus.cards
    ]
    cores = f"{number(machine.usable_cpus)} of {number(machine.logical_cpus)} logical CPUs usable"
    rows = (
        ("processor", f"{machine.cpu}, {machine.architecture}"),
        ("cores", f"{cores}, {number(machine.physical_cores)} physical, quota {machine.cpu_quota or 'none'}"),
        ("features", ", ".join(machine.cpu_features) or number(None)),
        ("memory", memory),
        ("GPU", "; ".join(cards) or f"none: {gpus.why_none}"),
        ("GPU driver, CUDA", f"{number(gpus.driver)}, {number(gpus.cuda_driver)}"),
        *((("board release", gpus.jetson),) if gpus.jetson else ()),
        ("power mode", f"{power.mode}, governor {power.governor}, boost {power.boost}, supply: {power.source}"),
        ("system", f"{machine.os}, kernel {machine.kernel}, container: {machine.container}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
        ("load average", f"{number(machine.load_before)} before, {number(machine.load_after)} after"),
    )
    return Table("machine", "The machine", "As seen from inside the timed process.", ("", ""), rows)


def _bundle(setting: Setting) -> Table:
    bundle, engine, packages = setting.bundle, setting.engine, setting.packages
    rows = (
        (
            "engine",
            f"{engine.name}, {engine.library}, on {engine.device}, {engine.precision}, threads {engine.threads}",
        ),
        ("bundle", f"{bundle.model_id}, {bundle.precision}, {megabytes(bundle.disk_bytes)} on disk"),
        (
            "head",
            f"{bundle.head}, score by {bundle.image_score}, input {bundle.input_size} × {bundle.input_size} pixels",
        ),
        ("encoder", f"{bundle.encoder.name}, weights: {bundle.encoder.weights}"),
        ("learned from", f"{bundle.data.dataset}, {bundle.data.normal_shots} + {bundle.data.abnormal_shots} images"),
        ("packages to install", f"{megabytes(packages.total_bytes)} in {len(packages.bytes_of)} packages"),
        ("notices", "; ".join(bundle.notices)),
    )
    return Table("bundle", "The bundle and its engine", "", ("", ""), rows)


def _proof(report: Report) -> Table:
    setting = report.setting
    rows = (
        ("this report", report.digest),
        ("its samples", number(None) if report.raw is None else report.raw.sha256),
        ("the bundle's manifest", setting.bundle.digest),
        ("bench and runtime code", setting.code_sha256),
    )
    lead = "SHA-256. `madclip-bench verify report.json` computes every figure on this page again from the samples."
    return Table("proof", "Hashes", lead, ("of", ""), rows)
