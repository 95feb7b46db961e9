"""The viewer in a browser: the whole visit on the embedded sample, through the real server."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
from PIL import Image

import mri_recon as mr
from mri_recon.io.writers.result import SIMULATED
from mri_recon.metrics import per_slice
from mri_recon.notice import RESEARCH_ONLY
from mri_recon.results.comparison import Comparison, compare
from mri_recon.results.figure import draw_comparison
from tests.support.patience import PATIENCE
from tests.support.viewer import rewritten

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: no browser tests")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,  # a browser, and networks on the whole sample
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: no browser tests"),
    pytest.mark.skipif(bool(os.environ.get("MRI_RECON_NO_BROWSER")), reason="MRI_RECON_NO_BROWSER is set"),
]

SAMPLE = Path(str(files("mri_recon"))) / "_sample" / "colin27_8ch.h5"
METHODS = ["zero-filled", "cs-wavelet", "unet"]
MAX_ITERS = 3
LAPTOP, TABLET = {"width": 1366, "height": 768}, {"width": 820, "height": 1180}
MIDDLE = 2
"""Index of the slice that is shown first."""

ASPECT = (217 / 151) / (181 / 127)
"""Height over width of a pixel of the sample: 217 mm in 151 rows, 181 mm in 127 columns."""

WATCH = """() => {
    window.seen = [];
    const progress = document.getElementById("progress");
    const note = () => window.seen.push(progress.querySelector(".progress-head").textContent);
    new MutationObserver(note).observe(progress, { subtree: true, childList: true, characterData: true });
}"""
"""Note everything that is said of the progress."""


@dataclass
class Visit:
    """A page with a finished comparison, and what was seen on the way."""

    page: Any
    address: str
    comparison: Comparison
    progress: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    npz: bytes = b""

    def image(self, tile: str, slice_index: int = MIDDLE) -> np.ndarray[Any, Any]:
        """What Python has for a tile."""
        if tile == "reference":
            assert self.comparison.target is not None
            return self.comparison.target[slice_index].numpy()
        return self.comparison.magnitude(tile)[slice_index].numpy()

    def place(self, tile: str, row: int, column: int) -> tuple[float, float]:
        """CSS pixels of an image's pixel in a tile that is not zoomed, from the tile's corner."""
        box = self.page.locator(f'[data-tile="{tile}"] canvas').bounding_box()
        height, width = self.image("reference").shape
        scale = min(box["width"] / width, box["height"] / (height * ASPECT))
        return (
            box["width"] / 2 + (column + 0.5 - width / 2) * scale,
            box["height"] / 2 + (row + 0.5 - height / 2) * scale * ASPECT,
        )

    def colour(self, tile: str, x: float, y: float) -> list[int]:
        """Red, green, blue of the canvas of a tile."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        script = "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)"
        return list(self.page.locator(f'[data-tile="{tile}"] canvas').evaluate(script, [x, y]))

    def hover(self, tile: str, x: float, y: float) -> None:
        self.page.locator(f'[data-tile="{tile}"] canvas').hover(position={"x": x, "y": y})

    def window(self) -> tuple[float, float]:
        return tuple(float(self.page.locator(f"#window-{name}").input_value()) for name in ("width", "level"))  # type: ignore[return-value]

    def value(self, tile: str) -> str:
        return str(self.page.locator(f'[data-tile="{tile}"] .value').inner_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright.expect.set_options(timeout=120_000)
    with playwright.sync_playwright() as engine:
        one = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture(scope="module")
def visit(server: httpx.Client, browser: Any) -> Iterator[Visit]:
    """Open the sample with chosen methods and options, by the keyboard alone."""
    scan = mr.load(SAMPLE)
    mask = mr.random_mask(scan.width, acceleration=4, seed=0, support=scan.support)
    comparison = compare(scan, mask, METHODS, options={"cs-wavelet": {"max_iters": MAX_ITERS}})
    context = browser.new_context(viewport=LAPTOP, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(120_000)
    one = Visit(page, str(server.base_url), comparison)
    page.on("console", lambda message: one.console.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: one.console.append(str(error)))
    page.on("request", lambda request: one.hosts.add(request.url.partition("://")[2].partition("/")[0]))
    page.goto(one.address)
    expect = playwright.expect
    expect(page.locator("input[name=method]")).not_to_have_count(0)
    page.locator("input[name=method][value=unrolled]").press("Space")
    page.get_by_role("button", name="Options of CS wavelet").press("Enter")
    page.locator("[data-method=cs-wavelet][data-option=max_iters]").fill(str(MAX_ITERS))
    page.evaluate(WATCH)
    page.locator("#welcome-sample").press("Enter")
    expect(page.locator("#metrics")).to_be_visible(timeout=1000 * PATIENCE)
    expect(page.locator("#overall")).to_be_hidden()
    one.progress = page.evaluate("() => window.seen")
    page.wait_for_url(re.compile("#run="))
    run = re.search("run=([0-9a-f]+)", page.url)
    assert run is not None
    one.npz = server.get(f"/v1/jobs/{run[1]}/result", headers={"Accept": "application/x-npz"}).content
    yield one
    context.close()


@pytest.fixture
def calm(visit: Visit) -> Visit:
    """The visit, with the view as it was at first."""
    page = visit.page
    page.locator("#banner").evaluate("(banner) => { banner.hidden = true; }")
    page.locator("#tab-results").click()
    page.locator("input[name=tool][value=window]").check(force=True)
    page.locator("input[name=show][value=image]").check(force=True)
    page.locator("#smooth").evaluate("(box) => box.checked && box.click()")
    page.locator("#invert").evaluate("(box) => box.checked && box.click()")
    page.locator("#slice").fill(str(MIDDLE + 1))
    for key in ("Escape", "Space"):
        page.locator("#stage").press(key)
    page.mouse.move(5, 5)
    return visit


def test_the_page_has_nothing_inline_and_a_strict_policy(server: httpx.Client) -> None:
    page = server.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert RESEARCH_ONLY in page.text
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", page.text)
    for asset in re.findall(r'(?:href|src)="(static/[^"]+)"', page.text):
        assert server.get(f"/{asset}").status_code == 200, asset


def test_progress_is_live(visit: Visit) -> None:
    found = [re.search(r"CS wavelet\D*(\d+) \((\d+) %\)", text) for text in visit.progress]
    iterations, shares = ([int(one[number]) for one in found if one] for number in (1, 2))
    assert shares == sorted(shares)
    assert len(set(iterations)) > 1, visit.progress
    assert iterations == sorted(iterations)
    assert any(text.startswith("U-Net") for text in visit.progress)


def test_metrics_are_those_of_python(calm: Visit) -> None:
    for row in calm.comparison.rows:
        cells = calm.page.locator(f'tr[data-method="{row["method"]}"] td').all_inner_texts()
        assert cells[:3] == [f"{row['psnr']:.2f}", f"{row['ssim']:.3f}", f"{row['nmse']:.4f}"]
    assert calm.page.locator("#convention").inner_text() == calm.comparison.document()["convention"]
    caption = calm.page.locator('[data-tile="cs-wavelet"] figcaption').inner_text()
    assert f"stopped at the limit of {MAX_ITERS} iterations" in caption


def test_pixels_and_orientation_are_those_of_the_figure(calm: Visit) -> None:
    drawn = [axes.images[0] for axes in draw_comparison(calm.comparison, slice_index=MIDDLE).axes if axes.images]
    by_tile = {tile: next(one for one in drawn if np.array_equal(one.get_array(), calm.image(tile)))
               for tile in ("reference", *METHODS)}  # fmt: skip
    width, level = calm.window()
    assert calm.comparison.target is not None
    assert width == pytest.approx(float(np.percentile(calm.comparison.target.numpy(), 99)), rel=1e-3)
    assert level == pytest.approx(width / 2, rel=1e-3)
    for tile, figure in by_tile.items():
        assert figure.origin == "upper"
        for row, column in ((20, 40), (75, 20), (110, 90), (131, 70)):
            expected = 255 * min(1.0, float(figure.get_array()[row, column]) / width)
            colour = calm.colour(tile, *calm.place(tile, row, column))
            assert colour == pytest.approx([expected] * 3, abs=1.5), (tile, row, column)


def test_the_value_under_the_pointer(calm: Visit) -> None:
    row, column = 40, 33
    calm.hover("unet", *calm.place("unet", row, column))
    assert calm.page.locator("#readout").inner_text() == f"row {row}, column {column}"
    for tile in ("reference", *METHODS):
        assert float(calm.value(tile)) == pytest.approx(float(calm.image(tile)[row, column]), rel=2e-3)


def test_the_probe_moves_by_the_arrow_keys(calm: Visit) -> None:
    stage = calm.page.locator("#stage")
    for key in ("p", "Shift+ArrowLeft", "Shift+ArrowLeft", "Control+Shift+ArrowDown"):
        stage.press(key)
    height, width = calm.image("reference").shape
    row, column = height // 2 + 10, width // 2 - 1
    assert calm.page.locator("#readout").inner_text() == f"row {row}, column {column}"
    assert float(calm.value("unet")) == pytest.approx(float(calm.image("unet")[row, column]), rel=2e-3)


def test_zoom_and_place_are_linked(calm: Visit) -> None:
    page = calm.page
    for _ in range(5):
        page.locator("#stage").press("+")  # from here on the image fills the tile, and can move
    playwright.expect(page.locator("#zoom-value")).to_have_text("3.05×")
    x, y = 200, 80
    calm.hover("cs-wavelet", x, y)
    pointed = page.locator("#readout").inner_text()

    def same_place() -> bool:  # to one pixel: the wheel has whole CSS pixels
        was, now = (
            list(map(int, re.findall(r"\d+", text))) for text in (pointed, page.locator("#readout").inner_text())
        )
        return max(abs(a - b) for a, b in zip(was, now, strict=True)) <= 1

    for _ in range(4):
        page.keyboard.down("Control")
        page.mouse.wheel(0, -120)
        page.keyboard.up("Control")
    playwright.expect(page.locator("#zoom-value")).to_have_text("8.77×")
    calm.hover("cs-wavelet", x + 60, y)
    assert not same_place()
    calm.hover("cs-wavelet", x, y)
    assert same_place(), "what is under the pointer stays"
    # Drag 60 pixels to the right, then read what is in the middle of every tile.
    page.mouse.down(button="middle")
    page.mouse.move(*[a + b for a, b in zip(_center(page, "cs-wavelet", x, y), (66, 27), strict=True)], steps=4)
    page.mouse.up(button="middle")
    box = page.locator('[data-tile="unet"] canvas').bounding_box()
    middle = (int(box["width"] / 2) + 0.5, int(box["height"] / 2) + 0.5)
    calm.hover("unet", *middle)
    row, column = map(int, re.findall(r"\d+", page.locator("#readout").inner_text()))
    assert f"row {row}, column {column}" != pointed
    page.mouse.move(5, 5)
    width, _ = calm.window()
    for tile in ("reference", *METHODS):
        expected = 255 * min(1.0, float(calm.image(tile)[row, column]) / width)
        assert calm.colour(tile, *middle) == pytest.approx([expected] * 3, abs=1.5), tile
    page.locator("#stage").press("0")
    playwright.expect(page.locator("#zoom-value")).to_have_text("1×")
    for key in ("m", "+", "Shift+ArrowRight"):
        page.locator("#stage").press(key)
    playwright.expect(page.locator("#zoom-value")).to_have_text("1.25×")
    start = _center(page, "unet", 60, 60)
    page.mouse.move(*start)
    page.mouse.down(button="right")
    page.mouse.move(start[0], start[1] - 60, steps=4)
    page.mouse.up(button="right")
    assert float(page.locator("#zoom-value").text_content().rstrip("×")) == pytest.approx(1.25 * np.exp(0.4), rel=0.01)


def _center(page: Any, tile: str, x: float, y: float) -> tuple[float, float]:
    box = page.locator(f'[data-tile="{tile}"] canvas').bounding_box()
    return box["x"] + x, box["y"] + y


def test_window_and_level(calm: Visit) -> None:
    page = calm.page
    usual = calm.window()
    start = _center(page, "unet", 60, 60)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 50, start[1] - 20, steps=5)
    page.mouse.up()
    assert page.locator("#preset").input_value() == "custom"
    wider = calm.window()
    assert wider[0] > usual[0]
    assert wider[1] > usual[1]
    row, column = 75, 20
    expected = 255 * float(np.clip((calm.image("unet")[row, column] - wider[1] + wider[0] / 2) / wider[0], 0, 1))
    page.mouse.move(5, 5)
    assert calm.colour("unet", *calm.place("unet", row, column)) == pytest.approx([expected] * 3, abs=1.5)
    page.locator("#preset").select_option("usual")
    assert calm.window() == usual
    for key in ("w", "Shift+ArrowRight"):
        page.locator("#stage").press(key)
    assert calm.window()[0] > usual[0]
    page.locator("#stage").press("2")
    assert calm.window()[0] == pytest.approx(float(calm.comparison.target.max()), rel=1e-3)  # type: ignore[union-attr]
    page.locator("#window-width").fill("1")
    page.locator("#window-level").fill("0.5")
    page.locator("#window-level").press("Enter")
    ticks = page.locator("#scale-ticks span").all_inner_texts()
    assert [float(tick) for tick in ticks] == [0, 0.5, 1]


def test_slices(calm: Visit) -> None:
    page = calm.page
    page.locator("#stage").press("ArrowDown")
    playwright.expect(page.locator("#slice-value")).to_have_text("4 of 4")
    width, _ = calm.window()
    row, column = 75, 40
    expected = 255 * min(1.0, float(calm.image("unet", 3)[row, column]) / width)
    assert calm.colour("unet", *calm.place("unet", row, column)) == pytest.approx([expected] * 3, abs=1.5)
    page.locator("#stage").press("PageUp")
    calm.hover("unet", 50, 50)
    page.mouse.wheel(0, -100)
    playwright.expect(page.locator("#slice-value")).to_have_text("2 of 4")
    page.locator("#slice").press("ArrowLeft")
    playwright.expect(page.locator("#slice-value")).to_have_text("1 of 4")
    page.locator("#stage").press("End")
    playwright.expect(page.locator("#slice-value")).to_have_text("4 of 4")
    numbers = page.locator('tr[data-slice-method="unet"] td').all_inner_texts()
    by_slice = per_slice(calm.comparison.magnitude("unet"), calm.comparison.target)
    assert numbers == [f"{by_slice['psnr'][3]:.2f}", f"{by_slice['ssim'][3]:.3f}", f"{by_slice['nmse'][3]:.4f}"]
    assert f"slice {numbers[0]} dB" in page.locator('[data-tile="unet"] figcaption').inner_text()


def test_differences_at_a_stated_scale(calm: Visit) -> None:
    from matplotlib import colormaps

    page = calm.page
    page.locator("#stage").press("d")
    page.locator("#scale").select_option("10")
    assert page.locator("#scale-ticks span").all_inner_texts() == ["0%", "5%", "10%"]
    assert calm.comparison.target is not None
    peak = float(calm.comparison.target.max())
    for row, column in ((75, 20), (60, 64), (110, 90)):
        error = 100 * abs(float(calm.image("unet")[row, column]) - float(calm.image("reference")[row, column])) / peak
        x, y = calm.place("unet", row, column)
        expected = [255 * part for part in colormaps["inferno"](min(1.0, error / 10))[:3]]
        assert calm.colour("unet", x, y) == pytest.approx(expected, abs=6)
        calm.hover("unet", x, y)
        assert float(calm.value("unet").rstrip(" %")) == pytest.approx(error, abs=0.006)
        page.mouse.move(5, 5)
    page.locator("#against").select_option("zero-filled")
    peak = float(calm.comparison.magnitude("zero-filled").max())
    row, column = 60, 64
    error = 100 * abs(float(calm.image("unet")[row, column]) - float(calm.image("zero-filled")[row, column])) / peak
    calm.hover("unet", *calm.place("unet", row, column))
    assert float(calm.value("unet").rstrip(" %")) == pytest.approx(error, abs=0.006)
    page.locator("#against").select_option("reference")
    page.locator("#scale").select_option("auto")


def test_swipe_by_keyboard_and_pointer(calm: Visit) -> None:
    page = calm.page
    page.locator("#stage").press("s")
    page.locator("#left").select_option("zero-filled")
    page.locator("#right").select_option("unet")
    divider = page.get_by_role("slider", name="Divider")
    divider.press("Home")
    assert divider.get_attribute("aria-valuenow") == "0"
    width, _ = calm.window()
    row, column = 60, 64
    shown = {}
    for key in ("Home", "End"):
        divider.press(key)
        shown[key] = calm.colour("swipe", *calm.place("swipe", row, column))[0]
    for key, method in (("Home", "unet"), ("End", "zero-filled")):
        expected = 255 * min(1.0, float(calm.image(method)[row, column]) / width)
        assert shown[key] == pytest.approx(expected, abs=1.5)
    divider.press("ArrowLeft")
    assert divider.get_attribute("aria-valuenow") == "98"
    box = page.locator('[data-tile="swipe"] canvas').bounding_box()
    page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "25"
    assert "Zero-filled on the left" in (divider.get_attribute("aria-valuetext") or "")


def test_sampling_is_the_receipt(calm: Visit) -> None:
    page = calm.page
    receipt = calm.comparison.receipt
    text = page.locator("#pane-results").inner_text()
    assert f"{receipt['num_lines']} of 127 columns (10 in the centre), R = 4 requested, 3.97 achieved" in text
    strip = page.locator("#pane-results canvas.mask-strip")
    script = "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, 1).data].filter((_, i) => i % 4 === 0)"
    assert [i for i, red in enumerate(strip.evaluate(script)) if red] == receipt["lines"]


def _amber(png: bytes) -> np.ndarray[Any, Any]:
    """Where a saved view has the colour of warnings and of the research-only mark."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)
    return np.asarray(np.all(np.abs(pixels - (0xF0, 0xB3, 0x5A)) < 40, axis=-1))


def test_downloads(calm: Visit) -> None:
    page = calm.page
    page.locator("#tab-export").click()

    def saved(button: str, name: str) -> bytes:
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == name
        return Path(download.value.path()).read_bytes()

    amber = _amber(saved("Save the view as PNG", "colin27_8ch.png"))
    assert amber[-60:].sum() > 200, "the research-only mark is written in"
    with np.load(io.BytesIO(saved("Arrays (.npz)", "colin27_8ch.npz"))) as arrays:
        for method in METHODS:
            expected = calm.comparison.magnitude(method).numpy()
            np.testing.assert_allclose(arrays[f"image.{method}"], expected, atol=1e-5 * expected.max())
    assert RESEARCH_ONLY.encode() in saved("Metrics and provenance (.json)", "colin27_8ch.json")
    with h5py.File(io.BytesIO(saved("Zero-filled (.h5)", "colin27_8ch-zero-filled.h5"))) as file:
        expected = calm.comparison.magnitude("zero-filled").numpy()
        np.testing.assert_allclose(file["reconstruction"][()], expected, atol=1e-5 * expected.max())
    page.locator("#save-format").select_option(".mrd")
    with h5py.File(io.BytesIO(saved("Zero-filled (.mrd)", "colin27_8ch-zero-filled.mrd"))) as file:
        assert file["dataset/images_0/data"].shape[0] == len(expected)


def test_every_control_has_a_name(calm: Visit) -> None:
    page = calm.page
    page.locator("#stage").press("s")
    session = page.context.new_cdp_session(page)
    unnamed = []
    for tab in ("scan", "results", "runs", "export"):
        page.locator(f"#tab-{tab}").click()
        for node in session.send("Accessibility.getFullAXTree")["nodes"]:
            focusable = any(p["name"] == "focusable" and p["value"]["value"] for p in node.get("properties", []))
            role = node.get("role", {}).get("value")
            named = node.get("name", {}).get("value", "").strip()
            if not node.get("ignored") and not named and (role == "image" or focusable) and role != "RootWebArea":
                unnamed.append((tab, role, node.get("backendDOMNodeId")))
    assert unnamed == []
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("#live").get_attribute("aria-live") == "polite"


def test_help_and_light_theme_by_keyboard(calm: Visit) -> None:
    page = calm.page
    page.locator("#stage").press("?")
    playwright.expect(page.get_by_role("dialog", name="Keys, mouse and fingers")).to_be_visible()
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#help")).to_be_hidden()
    page.locator("#stage").press("l")
    assert page.locator("html").get_attribute("data-theme") == "light"
    page.locator("#stage").press("l")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.locator("#mark").is_visible()


def test_a_long_run_is_cancelled(calm: Visit, server: httpx.Client) -> None:
    page = calm.page
    page.locator("#tab-scan").click()
    options = {name: page.locator(f"[data-method=cs-wavelet][data-option={name}]") for name in ("max_iters", "gap_tol")}
    link = page.evaluate("() => location.hash")
    options["max_iters"].fill("1000")
    options["gap_tol"].fill("1e-9")
    with page.expect_response(lambda answer: answer.url.endswith("/v1/compare")) as started:
        page.locator("#run").click()
    job = started.value.json()["id"]
    playwright.expect(page.locator("#progress-title")).to_have_text(re.compile("CS wavelet"))
    page.locator("#cancel").click()
    playwright.expect(page.locator("#run")).to_be_visible()
    assert server.get(f"/v1/jobs/{job}").json()["status"] == "cancelled"
    playwright.expect(page.locator("#banner")).to_contain_text("The run was stopped")
    playwright.expect(page.locator('[data-tile="zero-filled"]')).to_be_visible()
    assert page.locator('[data-tile="cs-wavelet"]').count() == 0
    page.wait_for_function("() => !location.hash")  # it cannot be opened again
    assert page.locator("#save-run").is_hidden()
    page.evaluate("(hash) => { location.hash = hash; }", link)
    playwright.expect(page.locator('[data-tile="unet"] canvas')).to_be_visible()
    assert page.locator("[data-method=cs-wavelet][data-option=max_iters]").input_value() == str(MAX_ITERS)
    assert options["gap_tol"].input_value() == ""


def test_nothing_went_wrong_and_nothing_went_elsewhere(visit: Visit) -> None:
    assert visit.console == []
    assert visit.hosts == {visit.address.partition("://")[2]}


def test_a_bad_file_says_what_to_do(calm: Visit) -> None:
    page = calm.page
    page.locator("#tab-scan").click()
    page.locator("#file").set_input_files({"name": "bad.h5", "mimeType": "application/x-hdf5", "buffer": b"nonsense"})
    card = page.locator("#card")
    playwright.expect(card).to_contain_text("This file cannot be read")
    playwright.expect(card).to_contain_text("expected fastMRI HDF5")
    playwright.expect(card).to_contain_text("Choose an undamaged file of k-space")
    playwright.expect(page.locator("#run")).to_be_disabled()
    assert page.locator("#stage canvas").count() > 0, "the images before stay"
    assert page.locator("#scan-name").inner_text() == SAMPLE.name, "and so does their name"


@pytest.fixture(scope="module")
def npz(visit: Visit) -> bytes:
    """The result of the visit, to show again without a reconstruction."""
    return visit.npz


def _shown(browser: Any, visit: Visit, npz: bytes, **device: Any) -> Any:
    """A page that shows a result, which comes at once."""
    page = browser.new_context(**(device or {"viewport": LAPTOP})).new_page()
    page.route("**/v1/compare", lambda route: route.fulfill(status=200, content_type="application/x-npz", body=npz))
    page.route("**/v1/validate", lambda route: route.abort())  # there is no scan
    page.goto(visit.address)
    page.locator("#file").set_input_files({"name": "scan.npy", "mimeType": "x", "buffer": b"x"})
    playwright.expect(page.locator("input[name=method]")).not_to_have_count(0)
    run = page.locator("#run")
    if device.get("has_touch"):
        run.tap()
    else:
        run.click()
    playwright.expect(page.locator("#stage canvas")).not_to_have_count(0)
    return page


def test_a_tablet_has_room_and_takes_fingers(browser: Any, visit: Visit, npz: bytes) -> None:
    page = _shown(browser, visit, npz, viewport=TABLET, has_touch=True)
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= TABLET["width"]
    tile = page.locator('[data-tile="unet"] canvas')
    page.wait_for_function("""() => document.querySelector('[data-tile="unet"] canvas').clientWidth > 200""")
    playwright.expect(page.locator("#overall")).to_be_hidden()  # nothing moves any more
    box = tile.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    session = page.context.new_cdp_session(page)

    def fingers(kind: str, apart: float) -> None:
        points = [] if kind == "touchEnd" else [{"x": middle[0] + sign * apart, "y": middle[1], "id": index}
                                                for index, sign in enumerate((-1, 1))]  # fmt: skip
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 20)
    for apart in (30, 45, 60):
        fingers("touchMove", apart)
    fingers("touchEnd", 0)
    zoom = float(page.locator("#zoom-value").text_content().rstrip("×"))
    assert zoom == pytest.approx(3, rel=0.02)
    page.locator("input[name=tool][value=window]").check(force=True)
    before = page.locator("#window-width").input_value()
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": middle[0], "y": middle[1]}]})
    session.send(
        "Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": middle[0] + 50, "y": middle[1]}]}
    )
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert float(page.locator("#window-width").input_value()) > float(before)
    page.context.close()


def test_another_run_keeps_what_is_looked_at(browser: Any, visit: Visit, npz: bytes) -> None:
    page = _shown(browser, visit, npz)
    for key in ("s", "ArrowDown", "+", "d"):
        page.locator("#stage").press(key)
    page.locator("#scale").select_option("20")
    page.locator("#left").select_option("unet")
    page.locator("#tab-scan").click()
    page.locator("#run").click()
    playwright.expect(page.locator("#pane-results")).to_be_visible()
    assert page.locator("#slice-value").inner_text() == "4 of 4"
    assert page.locator("#zoom-value").inner_text() == "1.25×"
    assert page.locator("#left").input_value() == "unet"
    assert page.locator("#scale-ticks span").all_inner_texts() == ["0%", "10%", "20%"]
    page.context.close()


def _rewritten(npz: bytes, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """The bundle after `change(arrays, metadata)`."""
    with np.load(io.BytesIO(npz)) as bundle:
        return rewritten(bundle, change)


def test_what_a_method_warns_of_stands_beside_its_image(browser: Any, visit: Visit, npz: bytes) -> None:
    said = "acceleration 12 is outside the range 2 to 10 of its training"

    def warn(_: dict[str, Any], metadata: dict[str, Any]) -> None:
        for number, row in enumerate(metadata["results"]):
            row["info"]["warnings"] = [said] if number == 2 else []

    page = _shown(browser, visit, _rewritten(npz, warn))
    remark = page.locator('[data-tile="unet"] figcaption .remark.warning')
    playwright.expect(remark).to_be_visible()
    assert remark.inner_text() == f"⚠ {said}"
    assert said in page.locator("#pane-results .note.warning").inner_text()
    assert page.locator('[data-tile="zero-filled"] .remark').count() == 0
    assert page.locator("#shared-warnings").is_hidden()
    page.context.close()


def test_what_all_methods_warn_of_is_said_once(calm: Visit) -> None:
    """The sample is simulated, and so is every image from it."""
    page = calm.page
    for row in calm.comparison.rows:
        assert SIMULATED in row["info"]["warnings"]
    for layout in ("g", "s", "o"):
        page.locator("#stage").press(layout)
        assert page.locator("#shared-warnings").inner_text() == f"⚠ {SIMULATED}"
        assert page.locator("#stage").inner_text().count(SIMULATED) == 0
    (said,) = [text for text in page.locator("#pane-results > .note").all_inner_texts() if SIMULATED in text]
    assert said.startswith("All methods\n")


def test_shared_warnings_and_those_of_a_method_are_told_apart(browser: Any, visit: Visit, npz: bytes) -> None:
    of_all, of_two, of_one = "<b>The echo</b> is off the centre.", "A warning of two.", "A warning of one."
    given = [[of_two, of_all], [of_all, of_two, of_all], [of_one, of_all]]

    def warn(_: dict[str, Any], metadata: dict[str, Any]) -> None:
        for row, texts in zip(metadata["results"], given, strict=True):
            row["info"]["warnings"] = texts

    page = _shown(browser, visit, _rewritten(npz, warn))
    assert page.locator("#shared-warnings").inner_text() == f"⚠ {of_all}"
    for method, text in zip(METHODS, (of_two, of_two, of_one), strict=True):
        under = page.locator(f'[data-tile="{method}"] .remark.warning').inner_text()
        assert under.startswith(f"⚠ {text}")
        assert of_all not in under
    assert page.locator("#pane-results > .note.warning").count() == 1 + len(METHODS)
    page.locator("#tab-export").click()
    with page.expect_download() as download:
        page.locator("#save-png").click()
    assert _amber(Path(download.value.path()).read_bytes())[95:130].sum() > 100, "it is written into the picture"
    page.context.close()


def test_long_warnings_are_wrapped_in_the_saved_view(browser: Any, visit: Visit, npz: bytes) -> None:
    """They take more lines, and are not squeezed into one."""

    def lines(num_words: int, method: int | None) -> int:
        def warn(_: dict[str, Any], metadata: dict[str, Any]) -> None:
            for number, row in enumerate(metadata["results"]):
                row["info"]["warnings"] = ["Warnung " * num_words] if method in (None, number) else []
                row["info"]["stop"] = ""

        page = _shown(browser, visit, _rewritten(npz, warn), viewport={"width": 500, "height": 900})
        page.locator("#tab-export").click()
        with page.expect_download() as download:
            page.locator("#save-png").click()
        amber = _amber(Path(download.value.path()).read_bytes())[95:-100].any(axis=1)
        page.context.close()
        return int(np.count_nonzero(np.diff(amber.astype(int)) == 1))

    assert lines(40, None) - lines(5, None) >= 3
    assert lines(40, 1) - lines(1, 1) >= 3


def test_the_warnings_of_a_method_alone_stand_under_its_image(browser: Any, visit: Visit, npz: bytes) -> None:
    def alone(arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
        metadata["results"] = metadata["results"][:1]
        metadata["results"][0]["info"]["warnings"] = [SIMULATED]
        for method in METHODS[1:]:
            del arrays[f"image.{method}"]

    page = _shown(browser, visit, _rewritten(npz, alone))
    assert page.locator("#shared-warnings").is_hidden()
    assert page.locator('[data-tile="zero-filled"] .remark.warning').inner_text() == f"⚠ {SIMULATED}"
    page.context.close()


def test_no_reference_one_slice_and_a_pattern(browser: Any, visit: Visit, npz: bytes) -> None:
    pattern = np.zeros((151, 127), np.uint8)
    pattern[3, 5] = pattern[70:80, 60:70] = 1

    def strip(arrays: dict[str, Any], metadata: dict[str, Any]) -> None:
        del arrays["reference"]
        for name in [*arrays]:
            if name.startswith("image.") or name == "kspace":
                arrays[name] = arrays[name][:1]
        arrays["mask"] = pattern
        metadata["mask"] = {"kind": "pattern", "num_samples": 101, "realised_acceleration": 189.9, "shape": [151, 127]}
        for row in metadata["results"]:
            row.update(nmse=None, psnr=None, ssim=None)

    page = _shown(browser, visit, _rewritten(npz, strip))
    assert page.locator("[data-tile]").count() == len(METHODS) + 1  # and k-space
    assert "no reference" in page.locator('[data-tile="unet"] figcaption').inner_text()
    assert "has no reference" in page.locator("#convention").inner_text()
    assert page.locator("#slice").is_hidden()
    page.locator("#stage").press("d")
    assert page.locator("#against").input_value() == "zero-filled"
    assert "2-D pattern, 101 samples, R = 189.90 achieved" in page.locator("#pane-results").inner_text()
    script = "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 2)"
    blue = np.array(page.locator("#pane-results canvas.mask-strip").evaluate(script)).reshape(pattern.shape)
    np.testing.assert_array_equal(blue > 0, pattern > 0)
    page.context.close()


def test_a_lost_connection_is_taken_up_behind_the_last_event(browser: Any, visit: Visit, npz: bytes) -> None:
    job = {"id": "j", "kind": "comparison", "status": "running", "position": None, "progress": None, "problem": None}
    progress = (
        '{"method": "cs-wavelet", "stage": "iterations", "iteration": 2, "total": 9, '
        '"objective": 4.5, "relative_gap": 0.25}'
    )
    ended = '{"id": "j", "status": "succeeded", "progress": null, "problem": null, "position": null}'
    seen: list[str | None] = []

    def events(route: Any) -> None:
        seen.append(route.request.headers.get("last-event-id"))
        if len(seen) == 1:
            whole = f"id: 7\r\nevent: progress\r\ndata: {progress}\r\n\r\n"
            body = whole + ": ping\r\n\r\nid: 8\r\nevent: progress\r\ndata: {"  # cut short
            route.fulfill(status=200, content_type="text/event-stream", body=body)
        elif len(seen) == 2:
            route.abort("connectionrefused")
        else:
            route.fulfill(status=200, content_type="text/event-stream", body=f"id: 9\nevent: end\ndata: {ended}\n\n")

    context = browser.new_context(viewport=LAPTOP)
    page = context.new_page()
    page.route("**/v1/compare", lambda route: route.fulfill(status=202, json=job))
    page.route("**/v1/validate", lambda route: route.abort())
    page.route("**/v1/jobs/j/events", events)
    page.route(
        "**/v1/jobs/j/result", lambda route: route.fulfill(status=200, content_type="application/x-npz", body=npz)
    )
    page.goto(visit.address)
    page.locator("#file").set_input_files({"name": "scan.npy", "mimeType": "x", "buffer": b"x"})
    playwright.expect(page.locator("input[name=method]")).not_to_have_count(0)
    page.locator("#run").click()
    playwright.expect(page.locator("#progress-count")).to_have_text("2 of 9")
    assert page.locator("#progress-objective").inner_text() == "4.5"
    assert page.locator("#progress-gap").inner_text() == "0.25"
    playwright.expect(page.locator("#banner")).to_contain_text("No connection to the service")
    playwright.expect(page.locator("#metrics")).to_be_visible()
    playwright.expect(page.locator("#banner")).to_be_hidden()
    assert seen == [None, "7", "7"]
    context.close()


def test_a_key_is_asked_for_and_kept_for_the_tab(browser: Any, visit: Visit) -> None:
    keys: list[str | None] = []
    refusal = {"type": "/problems/unauthorized", "title": "A key is needed", "status": 401, "code": "unauthorized",
               "detail": "expected an API key, got none", "request_id": "r"}  # fmt: skip

    def models(route: Any) -> None:
        keys.append(route.request.headers.get("authorization"))
        if keys[-1] is None:
            route.fulfill(status=401, content_type="application/problem+json", json=refusal)
        else:
            route.continue_()

    context = browser.new_context(viewport=LAPTOP)
    page = context.new_page()
    page.route("**/v1/models", models)
    page.goto(visit.address)
    playwright.expect(page.get_by_role("dialog", name="This service asks for a key")).to_be_visible()
    playwright.expect(page.locator("#key-detail")).to_have_text("expected an API key, got none")
    page.get_by_label("API key").fill("mrk_secret")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("input[name=method]")).not_to_have_count(0)
    page.reload()
    playwright.expect(page.locator("input[name=method]")).not_to_have_count(0)
    assert keys == [None, "Bearer mrk_secret", "Bearer mrk_secret"]
    assert page.evaluate("() => localStorage.length") == 0
    context.close()


def test_half_precision_and_damaged_bundles(visit: Visit) -> None:
    numbers = np.array([0, 1, -2.5, 65504, 6e-8, np.inf], np.float16)
    bundle = io.BytesIO()
    np.savez(bundle, half=numbers, flags=np.array([[1, 0]], np.uint8))
    script = """async (bytes) => {
        const { readNpz } = await import("/static/viewer/npz.js");
        const arrays = readNpz(Uint8Array.from(bytes).buffer);
        return [...arrays].map(([name, { shape, data }]) => [name, shape, [...data].map(String)]);
    }"""
    half, flags = visit.page.evaluate(script, list(bundle.getvalue()))
    assert half[:2] == ["half", [6]]
    np.testing.assert_allclose([float(text) for text in half[2]], numbers.astype(float), rtol=1e-6)
    assert flags == ["flags", [1, 2], ["1", "0"]]
    with pytest.raises(playwright.Error, match="not a zip file, or it is cut short"):
        visit.page.evaluate(script, list(bundle.getvalue()[:-30]))
    packed = io.BytesIO()
    np.savez_compressed(packed, half=numbers)
    with pytest.raises(playwright.Error, match="is compressed; expected a stored zip"):
        visit.page.evaluate(script, list(packed.getvalue()))


def test_the_map_of_trust_is_drawn_after_a_check(server: httpx.Client, browser: Any) -> None:
    context = browser.new_context(viewport=LAPTOP)
    page = context.new_page()
    page.set_default_timeout(120_000)
    expect = playwright.expect
    page.goto(str(server.base_url))
    expect(page.locator("input[name=method]")).not_to_have_count(0)
    for method in ("unet", "unrolled"):
        page.locator(f"input[name=method][value={method}]").uncheck()
    page.get_by_role("button", name="Options of CS wavelet").press("Enter")
    page.locator("[data-method=cs-wavelet][data-option=max_iters]").fill(str(MAX_ITERS))
    page.locator("#check").check()
    page.locator("#welcome-sample").press("Enter")
    expect(page.locator("#metrics")).to_be_visible(timeout=1000 * PATIENCE)
    expect(page.locator('[data-tile="cs-wavelet"]')).to_contain_text("hold-out check: error")
    page.locator("#stage").press("d")
    page.locator("#against").select_option("trust")
    expect(page.locator("#scale-unit")).to_have_text("expected error (bright: do not trust), % of maximum")
    scan = mr.load(SAMPLE)
    mask = mr.random_mask(scan.width, acceleration=4, seed=0, support=scan.support)
    result = mr.reconstruct(
        mr.undersample(scan.kspace, mask), mask, method="cs-wavelet", max_iters=MAX_ITERS, check="holdout"
    )
    assert result.trust_map is not None
    assert scan.target is not None
    row, column = 60, 64
    expected = 100 * float(result.trust_map[MIDDLE, row, column]) / float(scan.target.max())
    box = page.locator('[data-tile="cs-wavelet"] canvas').bounding_box()
    height, width = scan.target.shape[-2:]
    scale = min(box["width"] / width, box["height"] / (height * ASPECT))
    x = (box["width"] + (2 * column + 1 - width) * scale) / 2
    y = (box["height"] + (2 * row + 1 - height) * scale * ASPECT) / 2
    page.locator('[data-tile="cs-wavelet"] canvas').hover(position={"x": x, "y": y})
    shown = page.locator('[data-tile="cs-wavelet"] .value').inner_text()
    assert float(shown.rstrip(" %")) == pytest.approx(expected, abs=0.02)
    # Zero-filled has no map: its tile says so, and shows no image under this name.
    assert page.locator('[data-tile="zero-filled"] .value').inner_text() == "–"
    if folder := os.environ.get("MRI_RECON_TEST_PICTURES"):
        page.screenshot(path=str(Path(folder) / "viewer-trust.png"))
    context.close()
