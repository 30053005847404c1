"""The gallery in a real browser: sorted, filtered, opened by mouse and by keyboard, and nothing loaded."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_edits import edit_manifest
from image_files import saved

from madclip_runtime.cli import main

HOSTILE = "<img src=x onerror=alert(1)>'\"&.png"


@pytest.fixture
def page(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five results of rising brightness, one of them borderline, one by a hostile name, and one refusal."""
    edit_manifest(tiny_bundle, lambda manifest: manifest["heads"]["brightness"].update(score_error=0.05))
    monkeypatch.chdir(tmp_path)
    folder = Path("scans")
    folder.mkdir()
    for name, level in (("dark.png", 20), ("dim.png", 60), ("edge.png", 130), ("light.png", 200), (HOSTILE, 240)):
        pixels = np.full((60, 80), level // 2, np.uint8)
        pixels[20:30, 20:40] = level
        (folder / name).write_bytes(saved(pixels, "PNG"))
    (folder / "broken.png").write_bytes(b"")
    assert main(["--bundle", str(tiny_bundle), "scans", "--no-cache", "--gallery", "out/gallery.html"]) == 3
    return tmp_path / "out" / "gallery.html"


def test_it_is_one_file_that_loads_nothing(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and "research use, not a medical device" in text
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)[^"']*""", re.sub(r"&lt;.*?&gt;", "", text))
    assert HOSTILE not in text and "http:" not in text and "https:" not in text
    assert [path.name for path in page.parent.iterdir()] == ["gallery.html"]


@pytest.fixture
def browser(page: Path) -> Iterator[Any]:
    driver, binary = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or binary is None:
        pytest.skip("chromium and chromedriver are not installed: the gallery was NOT looked at in a browser")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.get(page.as_uri())
    yield chrome
    chrome.quit()


def names(browser: Any) -> list[str]:
    cards = browser.find_elements("css selector", ".card")
    return [card.find_element("css selector", ".name").text for card in cards if card.is_displayed()]


def test_sorted_by_score_and_filtered_by_decision(browser: Any) -> None:
    assert names(browser) == [HOSTILE, "light.png", "edge.png", "dim.png", "dark.png", "broken.png"]
    filters = {button.text: button for button in browser.find_elements("css selector", ".filter")}
    assert list(filters) == ["all 6", "abnormal 2", "borderline 1", "normal 2", "refused 1"]
    filters["borderline 1"].click()
    assert names(browser) == ["edge.png"] and filters["borderline 1"].get_attribute("aria-pressed") == "true"
    filters["all 6"].click()
    assert len(names(browser)) == 6
    assert browser.get_log("browser") == []  # the policy stopped nothing, so nothing was tried


def test_a_click_shows_the_overlay_and_escape_hides_it(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    dialog = browser.find_element("css selector", "dialog")
    assert not dialog.is_displayed()
    browser.find_elements("css selector", ".card")[1].click()
    assert dialog.is_displayed() and "light.png" in dialog.text and "abnormal" in dialog.text
    picture = dialog.find_element("css selector", "img")
    assert browser.execute_script("return arguments[0].naturalWidth", picture) > 300
    dialog.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    browser.find_elements("css selector", ".card")[-1].click()
    assert "the file is empty" in dialog.text


def test_all_of_it_works_from_the_keyboard(browser: Any) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(browser).send_keys(*keys).perform()

    def focused() -> str:
        return str(browser.switch_to.active_element.get_attribute("aria-label") or "")

    press(*[Keys.TAB] * 6)  # five filters, then the first card
    assert focused().startswith(f"scans/{HOSTILE}")
    press(Keys.ARROW_RIGHT)
    assert focused().startswith("scans/light.png")
    press(Keys.ENTER)
    dialog = browser.find_element("css selector", "dialog")
    assert dialog.is_displayed() and "light.png" in dialog.text
    press(Keys.ARROW_RIGHT)
    assert "edge.png" in dialog.text
    press(Keys.ESCAPE)
    assert not dialog.is_displayed() and focused().startswith("scans/edge.png")


def test_many_heads_and_no_result_at_all(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--bundle", str(tiny_bundle), "none.png", "--no-cache", "--gallery", "g.html"]) == 3
    assert Path("g.html").read_text(encoding="utf-8").count('class="card"') == 1
