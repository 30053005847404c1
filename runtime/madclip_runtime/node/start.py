"""From the config to a node at work: bundle, engine, a detector a rule, ledger, Orthanc."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from madclip_runtime.bundle import Bundle, find_bundle
from madclip_runtime.detector import Detector
from madclip_runtime.errors import EXIT_OK, UsageError
from madclip_runtime.node.config import Config
from madclip_runtime.node.feed import Feed
from madclip_runtime.node.ledger import Ledger
from madclip_runtime.node.loop import Loop
from madclip_runtime.node.objects import require_highdicom
from madclip_runtime.node.orthanc import Orthanc
from madclip_runtime.node.rules import Rule
from madclip_runtime.node.state import check_disk, held, ledger_path, open_folder, work_path
from madclip_runtime.node.worker import Worker
from madclip_runtime.window import Window, parse_window

__all__ = ["load_rules", "run"]

Say = Callable[[str], None]


def run(config: Config, emit: Say, talk: Say) -> int:
    """Work until stopped. emit: each audit line. Raises: whatever keeps it from starting; KeyboardInterrupt."""
    require_highdicom()
    folder = open_folder(Path(config.node.state))
    with held(folder):
        orthanc = Orthanc(config.orthanc)
        rules = load_rules(config, talk)
        ledger = Ledger(ledger_path(folder))
        try:
            worker = Worker(
                orthanc,
                ledger,
                rules,
                work_path(folder),
                batch=config.node.batch,
                tries=config.node.tries,
                send_to=config.orthanc.send_to,
                check_disk=lambda: check_disk(folder, config.node.free_gb),
                talk=talk,
            )
            worker.clear()  # what a power cut left
            feed = Feed(orthanc, ledger, queue=config.node.queue, sweep_s=config.node.sweep_s)
            talk(f"at work for {config.orthanc.url}, rules {', '.join(rules)}")
            Loop(feed, worker, ledger, poll_s=config.node.poll_s, emit=emit, talk=talk).run()
        finally:
            ledger.close()
    return EXIT_OK


def load_rules(config: Config, talk: Say) -> dict[str, tuple[Rule, Detector]]:
    """A detector a rule, all on one engine. Raises: BundleRefused, EngineRefused, UsageError naming the rule."""
    from madclip_runtime.cache import open_cache

    bundle = Bundle.open(find_bundle(config.node.bundle))
    rules: dict[str, tuple[Rule, Detector]] = {}
    first: Detector | None = None
    for rule in config.rules:
        try:
            if first is None:
                cache = open_cache(config.node.cache or None, 8.0, talk)
                first = Detector.load(
                    bundle,
                    engine=config.node.engine,
                    head=rule.head or None,
                    operating_point=rule.operating_point or None,
                    window=_window(rule),
                    cache=cache,
                    tell=talk,
                )
            rules[rule.name] = (rule, _of_rule(bundle, first, rule))
        except UsageError as error:
            raise UsageError(f"[rule {rule.name}] {error.what}", error.why, error.do) from None
    _tell(bundle, first, talk)
    return rules


def _of_rule(bundle: Bundle, first: Detector, rule: Rule) -> Detector:
    detector = Detector(
        bundle,
        first.engine,
        head=rule.head or None,
        operating_point=rule.operating_point or None,
        window=_window(rule),
    )
    if len(detector.heads) > 1:
        raise UsageError(
            "head", f"the bundle has {', '.join(detector.heads)}", "name one; several heads need several rules"
        )
    return detector


def _tell(bundle: Bundle, detector: Detector | None, talk: Say) -> None:
    for line in bundle.manifest.notices:
        talk(line)
    if detector is not None:
        info = detector.engine.info
        talk(f"bundle {bundle.manifest.model_id}, {info.precision}, on {info.name} ({info.library})")


def _window(rule: Rule) -> Window | None:
    return parse_window(rule.window) if rule.window else None
