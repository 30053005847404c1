"""Debian's Chromium without a window, driven by its own driver; a loud skip where it isn't there."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

__all__ = ["chromium", "requested"]


def chromium(what: str, **capabilities: str) -> Any:
    """A browser that logs; `what` was not looked at where there is none. capabilities: kinds of log to keep."""
    driver, binary = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or binary is None:
        pytest.skip(f"{what} was NOT looked at in a browser (apt-get install chromium chromium-driver)")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", **capabilities})
    return webdriver.Chrome(options=options, service=Service(driver))


def requested(browser: Any) -> list[str]:
    """The URL of every request the page has made, data URLs left out; needs performance="ALL"."""
    import json

    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith("data:")]
