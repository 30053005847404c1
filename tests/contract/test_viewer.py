"""The viewer page in a real browser: real clicks and keys, no console error, nothing asked of anybody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import dicom_bytes
from bundle_edits import edit_manifest, two_heads
from chromium import chromium, requested
from image_files import saved
from service_peer import Service, running

PATIENCE_S = 30


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    driver = chromium("the viewer page", performance="ALL")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of known brightness: one bright spot each."""
    made = tmp_path_factory.mktemp("images")
    for name, level in (("normal.png", 60), ("edge.png", 130), ("abnormal.png", 240)):
        pixels = np.full((80, 120), level // 3, np.uint8)
        pixels[20:50, 30:90] = level
        (made / name).write_bytes(saved(pixels, "PNG"))
    (made / "broken.png").write_bytes(b"no image")
    (made / "slice.dcm").write_bytes(dicom_bytes(64, WindowCenter=40, WindowWidth=80, PixelSpacing=[0.5, 0.5]))
    return made


@pytest.fixture(scope="module")
def service(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    bundle = tiny.write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny.madclip")
    edit_manifest(bundle, lambda manifest: manifest["heads"]["brightness"].update(score_error=0.05))
    with running(bundle) as started:
        yield started


@pytest.fixture
def page(chrome: Any, service: Service) -> Iterator[Any]:
    requested(chrome)  # forget earlier ones
    chrome.get(f"{service.url}/")
    yield chrome
    assert chrome.get_log("browser") == []  # no error, and the policy stopped nothing
    asked = requested(chrome)
    assert asked and all(url.startswith(f"{service.url}/") for url in asked), asked


def at(page: Any, name: str) -> Any:
    return page.find_element("id", name)


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def choose(page: Any, path: Path) -> None:
    at(page, "file").send_keys(str(path))
    until(lambda: path.name in at(page, "status").text and "…" not in at(page, "status").text)


def test_an_abnormal_image_is_shown_with_all_that_belongs_to_it(page: Any, folder: Path) -> None:
    choose(page, folder / "abnormal.png")
    assert at(page, "decision").text == "▲ abnormal" and "threshold 0.5000 (test)" in at(page, "why").text
    assert page.switch_to.active_element.get_attribute("id") == "decision"  # a screen reader starts there
    label = at(page, "bar").get_attribute("aria-label")
    assert "on a bar from 0 to 1; test at 0.500; borderline within 0.050" in label
    assert at(page, "band").is_displayed() and page.find_element("css selector", ".tick.deciding").is_displayed()
    rows = [row.text for row in at(page, "points").find_elements("css selector", "tbody tr")]
    assert rows == ["test (decides) 0.5000 100 % (3–100) 100 % (3–100) abnormal"]
    regions = at(page, "regions").find_elements("css selector", "tbody tr")
    assert len(regions) == 1 and " px" in regions[0].text
    assert [row.text.split()[0] for row in at(page, "times").find_elements("tag name", "tr")] == [
        *("decode", "preprocess", "compute")
    ]
    for picture in ("image", "heat"):
        assert page.execute_script("return arguments[0].naturalWidth", at(page, picture)) > 0
    path = page.find_element("css selector", "#lines .line")
    assert path.get_attribute("d").startswith("M") and path.is_displayed()
    assert "research use, not a medical device" in at(page, "notice").text


def test_the_layers_lie_over_each_other_in_the_images_shape(page: Any, folder: Path) -> None:
    choose(page, folder / "abnormal.png")
    boxes = [at(page, name).rect for name in ("image", "heat", "lines")]
    assert boxes[0] == boxes[1] and boxes[0]["width"] / boxes[0]["height"] == pytest.approx(120 / 80, rel=0.02)
    outline = page.find_element("css selector", "#lines .line").rect
    assert outline["x"] - boxes[0]["x"] == pytest.approx(boxes[0]["width"] * 30 / 120, rel=0.2)


def test_normal_and_borderline_images_and_a_dicom_file(page: Any, folder: Path) -> None:
    choose(page, folder / "normal.png")
    assert at(page, "decision").text == "● normal" and "No regions" in at(page, "noregions").text
    choose(page, folder / "edge.png")
    assert at(page, "decision").text == "◆ borderline" and "too close to call" in at(page, "why").text
    choose(page, folder / "slice.dcm")
    assert "the file's own window" in at(page, "notes").text and "mm²" in at(page, "regions").text


def test_a_refusal_is_told_and_nothing_old_stays_on_show(page: Any, folder: Path) -> None:
    choose(page, folder / "abnormal.png")
    at(page, "file").send_keys(str(folder / "broken.png"))
    until(lambda: "Refused (InputRefused)" in at(page, "status").text)
    assert "re-export" in at(page, "status").text and at(page, "status").get_attribute("role") == "status"
    assert not at(page, "findings").is_displayed() and not at(page, "stage").is_displayed()
    log = page.get_log("browser")  # the browser itself notes an answer of 422
    assert [entry for entry in log if "422" not in entry["message"]] == []


def test_opacity_outline_and_regions_answer_to_keys_and_clicks(page: Any, folder: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    choose(page, folder / "abnormal.png")
    slider = at(page, "opacity")
    slider.send_keys(Keys.HOME)
    assert at(page, "heat").value_of_css_property("opacity") == "0" and at(page, "shown").text == "0 %"
    slider.send_keys(Keys.END, Keys.ARROW_LEFT)
    assert at(page, "heat").value_of_css_property("opacity") == "0.99"
    at(page, "outline").send_keys(Keys.SPACE)
    assert not page.find_element("css selector", "#lines .line").is_displayed()
    at(page, "outline").click()
    assert page.find_element("css selector", "#lines .line").is_displayed()
    button = at(page, "regions").find_element("tag name", "button")
    button.click()
    assert button.get_attribute("aria-pressed") == "true" and page.find_elements("css selector", "#lines .box")
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-pressed") == "false" and not page.find_elements("css selector", "#lines .box")


def test_all_controls_are_reached_by_tab_in_their_order_and_have_names(page: Any, folder: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    choose(page, folder / "abnormal.png")
    page.execute_script("document.querySelector('a').focus()")
    names = []
    for _ in range(5):
        ActionChains(page).send_keys(Keys.TAB).perform()
        names.append(page.switch_to.active_element.accessible_name)
    assert names[0].startswith("Choose an image or DICOM file") and names[1].startswith("heat map")
    assert names[2:] == ["outline of what reached the threshold", "show region 1 on the image", "Model card"]


def test_a_file_that_is_dropped_is_examined(page: Any) -> None:
    drop = """
      const bytes = Uint8Array.from(atob(arguments[0]), c => c.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'dropped.png', {type: 'image/png'}));
      for (const kind of ['dragover', 'drop'])
        document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
    """
    import base64

    page.execute_script(drop, base64.b64encode(saved(np.full((40, 40), 250, np.uint8), "PNG")).decode())
    until(lambda: at(page, "status").text == "Read dropped.png.")
    assert at(page, "decision").text == "▲ abnormal"


def test_the_model_card_opens(page: Any) -> None:
    card = at(page, "card")
    card.find_element("tag name", "summary").click()
    until(lambda: "tiny-brightness, fp32" in card.text)
    assert "random weights: it has learned nothing" in card.text and "onnxruntime-cpu" in card.text


CONTRAST = """
  const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b); };
  const clear = c => c === 'rgba(0, 0, 0, 0)';
  const behind = e => { while (e && clear(getComputedStyle(e).backgroundColor)) e = e.parentElement;
    return getComputedStyle(e || document.body).backgroundColor; };
  const worst = [];
  const kinds = 'h1,h2,h3,p,a,th,td,dt,dd,label,span,b,button,caption,summary,figcaption';
  for (const e of document.querySelectorAll(kinds)) {
    if (!e.offsetParent || !e.innerText.trim()) continue;
    const [x, y] = [light(getComputedStyle(e).color), light(behind(e))].sort((m, n) => n - m);
    worst.push([(x + 0.05) / (y + 0.05), e.tagName + ' ' + e.innerText.slice(0, 30)]);
  }
  return worst.sort((m, n) => m[0] - n[0])[0];
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(page: Any, folder: Path, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    choose(page, folder / "abnormal.png")
    at(page, "card").find_element("tag name", "summary").click()
    contrast, where = page.execute_script(CONTRAST)
    assert contrast >= 4.5, where  # WCAG 2, level AA


def test_on_a_narrow_screen_nothing_is_cut_off(page: Any, folder: Path) -> None:
    narrow = {"width": 340, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        choose(page, folder / "abnormal.png")
        wide = page.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_token_is_asked_for_and_kept_nowhere(chrome: Any, tiny_bundle: Path, folder: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("a-token-of-no-other-use-0123456789")
    two_heads(tiny_bundle)
    with running(tiny_bundle, "--head", "all", "--token-file", str(token)) as service:
        chrome.get(f"{service.url}/")
        until(at(chrome, "ask").is_displayed)
        field = at(chrome, "token")
        field.send_keys("wrong")
        field.submit()
        until(lambda: "missing or wrong" in at(chrome, "status").text)
        field.send_keys(token.read_text())
        field.submit()
        until(lambda: at(chrome, "status").text == "Ready.")
        choose(chrome, folder / "abnormal.png")
        assert at(chrome, "decision").text == "▲ abnormal"
        at(chrome, "head").send_keys("brain")
        choose(chrome, folder / "normal.png")
        assert "the threshold says nothing of single pixels" in at(chrome, "noregions").text
        script = "return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"
        kept = chrome.execute_script(script)
        assert token.read_text() not in kept and at(chrome, "token").get_attribute("value") == ""
        chrome.get_log("browser")
