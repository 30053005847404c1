"""The bench's pages in a real browser: Debian's Chromium, headless, with nothing but the page.

Watched over the DevTools protocol, spoken here on the browser's own pipe: every request it makes, and every word it
writes on the console. Skipped, loudly, where there is no Chromium.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_fakes import raw, report, setting, trial, trials
from PIL import Image

from madclip_bench.compare.comparison import compare_reports
from madclip_bench.pages.comparison import comparison_page
from madclip_bench.pages.html import page
from madclip_bench.rules import Rules

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """A headless browser on two pipes: commands go into its descriptor 3, answers and events come out of 4."""

    def __init__(self, profile: Path) -> None:
        assert BROWSER is not None
        to_browser, from_browser = os.pipe(), os.pipe()

        def wire() -> None:
            os.dup2(to_browser[0], 3)
            os.dup2(from_browser[1], 4)

        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        quiet = ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            [BROWSER, *options, *quiet, "about:blank"],
            preexec_fn=wire,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        self._out, self._in = os.fdopen(to_browser[1], "wb"), os.fdopen(from_browser[0], "rb")
        self._next, self.session = 0, ""
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, **params: Any) -> Any:
        """One command and its answer; events that come meanwhile are kept."""
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while (answer := self._read()).get("id") != self._next:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def wait_for(self, event: str) -> None:
        """Until the browser says so."""
        while not any(one.get("method") == event for one in self.events):
            self.events.append(self._read())

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.session = ""
            self.ask("Browser.close")
        self.process.wait(30)
        self._out.close()
        self._in.close()

    def _read(self) -> dict[str, Any]:
        text = b""
        while not text.endswith(b"\0"):
            byte = self._in.read(1)
            assert byte, "the browser has gone"
            text += byte
        return json.loads(text[:-1])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if BROWSER is None:
        pytest.skip("no Chromium: the bench's pages were NOT opened in a browser")
    chromium = Chromium(tmp_path_factory.mktemp("profile"))
    target = chromium.ask("Target.createTarget", url="about:blank")["targetId"]
    chromium.session = chromium.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Network", "Log", "Runtime"):
        chromium.ask(f"{domain}.enable")
    yield chromium
    chromium.close()


def _open(browser: Chromium, path: Path, *, scheme: str = "light", width: int = 1100) -> list[dict[str, Any]]:
    """Load a page and return all events meanwhile."""
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.events.clear()
    browser.ask("Page.navigate", url=path.as_uri())
    browser.wait_for("Page.loadEventFired")
    browser.ask("Runtime.evaluate", expression="1")  # what the page still had to say has come by now
    return list(browser.events)


def _quick() -> str:
    noisy = raw(trials=trials(single=trial([20.0, 25.0] * 200)))
    return page(report(setting(rules=Rules.fast(seed=0)), noisy))


PAGES = {
    "full": lambda: page(report()),
    "quick": _quick,
    "comparison": lambda: comparison_page(compare_reports([report(), report()], ["old box", "new box"])),
}


@pytest.fixture(params=PAGES)
def html(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    return path


def test_a_page_asks_for_nothing_and_complains_of_nothing(browser: Chromium, html: Path) -> None:
    events = _open(browser, html)
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [html.as_uri()]
    said = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert [event for event in events if event["method"] in said] == []


def test_a_blocked_asset_would_have_been_seen(browser: Chromium, tmp_path: Path) -> None:
    """The watchers above are awake."""
    path = tmp_path / "page.html"
    path.write_text(PAGES["full"]().replace("</body>", '<img src="other.png"></body>'), encoding="utf-8")
    assert any(event["method"] == "Log.entryAdded" for event in _open(browser, path))


@pytest.mark.parametrize("width", [1100, 390])
def test_nothing_runs_out_of_the_page(browser: Chromium, html: Path, width: int) -> None:
    _open(browser, html, width=width)
    expression = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.ask("Runtime.evaluate", expression=expression)["result"]["value"] <= 0


def _picture(browser: Chromium) -> np.ndarray:
    data = browser.ask("Page.captureScreenshot", format="png")["data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))


def test_light_is_light_and_dark_is_dark(browser: Chromium, html: Path) -> None:
    _open(browser, html, scheme="light")
    light = _picture(browser)
    _open(browser, html, scheme="dark")
    dark = _picture(browser)
    assert np.median(light) > 230 and np.median(dark) < 50
    assert light.std() > 10 and dark.std() > 10  # there is something to read on both


def test_it_prints_as_a_pdf_of_several_sheets(browser: Chromium, html: Path) -> None:
    _open(browser, html)
    data = base64.b64decode(browser.ask("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert data.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type /Page\b", data)) >= (2 if "comparison" in html.read_text() else 5)


def test_the_stamp_is_the_head_of_every_printed_sheet(browser: Chromium, tmp_path: Path) -> None:
    """A table's head is what every browser repeats on each sheet; on screen it is not shown."""
    path = tmp_path / "page.html"
    path.write_text(_quick(), encoding="utf-8")
    _open(browser, path)
    ask = {"expression": "getComputedStyle(document.querySelector('.sheet > thead')).display"}
    assert browser.ask("Runtime.evaluate", **ask)["result"]["value"] == "none"
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.ask("Runtime.evaluate", **ask)["result"]["value"] == "table-header-group"
    browser.ask("Emulation.setEmulatedMedia", media="")
