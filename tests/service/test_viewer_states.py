"""The viewer in each of its states, on four sizes of screen: what fits, what is read, what is kept."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

import mri_recon as mr
from mri_recon.progress import OnProgress, Progress
from tests.support.methods import add_method
from tests.support.patience import PATIENCE
from tests.support.viewer import BROWSER, DEVICES, arrays_of, open_pane, to_images

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: no browser tests")
pytestmark = BROWSER

OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter((one) => one.offsetParent && one.clientWidth &&
    one.scrollWidth > one.clientWidth + 1 && !["auto", "scroll", "hidden"].includes(getComputedStyle(one).overflowX))
    .map((one) => `${one.tagName}#${one.id}.${one.className} ${one.scrollWidth} > ${one.clientWidth}`)"""
SMALL = """() => [...document.querySelectorAll("button, a[href], select, summary, .check, .segments label, " +
    "input:not([type=checkbox], [type=radio])")].filter((one) => one.offsetParent && one.getBoundingClientRect().width)
    .map((one) => [one.id || one.textContent.trim(), one.getBoundingClientRect()])
    .filter(([, { width, height }]) => width < 39.5 || height < 39.5)
    .map(([name, { width, height }]) => [name, width, height])"""
WELLS = """() => [...document.querySelectorAll(".well")].map((one) => one.getBoundingClientRect())
    .map(({ left, top, right, bottom }) => [left, top, right, bottom])"""


class Held:
    """A method that ends when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def __call__(
        self, kspace: torch.Tensor, mask: Any, *, sens_maps: Any, on_progress: OnProgress | None = None
    ) -> Any:
        assert on_progress is not None
        on_progress(Progress("held", "iterate", 3, 7))
        assert self.go.wait(PATIENCE)
        return kspace[:, 0], {}


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    method = Held()
    add_method(monkeypatch, "held", method)
    yield method
    method.go.set()


@pytest.mark.parametrize("device", DEVICES)
def test_every_state_fits_and_can_be_read(
    open_page: Any, server: httpx.Client, scan_file: Path, held: Held, run_id: str, second_id: str, device: str
) -> None:
    """No overflow, no serious finding of axe-core, targets for fingers, images in sight; dark and light."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    page = open_page(device=device)
    pictures = os.environ.get("MRI_RECON_TEST_PICTURES")
    width, height = (DEVICES[device]["viewport"][side] for side in ("width", "height"))

    def look(state: str, *, images: int | None = None) -> None:
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, state
        assert page.evaluate(OVERFLOWING) == [], state
        found = axe.run(page).response["violations"]
        assert [(one["id"], one["nodes"]) for one in found if one["impact"] in ("serious", "critical")] == [], state
        if DEVICES[device].get("has_touch"):
            assert page.evaluate(SMALL) == [], state
        if images is not None:
            wells = page.evaluate(WELLS)
            assert len(wells) == images, state
            if device == "telephone":  # as wide as the screen, the first in sight, the others below it
                assert all(right - left >= 0.9 * width for left, _, right, _ in wells), state
                assert [top for _, top, _, _ in wells] == sorted(top for _, top, _, _ in wells), state
                wells = wells[:1]
            for left, top, right, bottom in wells:
                assert 0 <= left < right <= width, state
                assert 0 <= top < bottom <= height, state
                assert min(right - left, bottom - top) >= 40, state
        if pictures:
            page.screenshot(path=str(Path(pictures) / f"viewer-{device}-{state}.png"))

    to_images(page)
    look("start")
    open_pane(page, "scan")
    look("scan-empty")

    def follow(fragment: str, tile: str) -> None:
        page.evaluate("(fragment) => { location.hash = fragment; }", fragment)
        page.locator(f'[data-tile="{tile}"]').wait_for(state="attached")

    files = {"file": ("scan.h5", scan_file.read_bytes())}
    data = {"methods": "zero-filled,held", "acceleration": "3"}
    job = server.post("/v1/compare", files=files, data=data, headers={"Prefer": "respond-async"}).json()["id"]
    follow(f"run={job}", "zero-filled")
    look("live", images=4)
    held.go.set()
    page.locator('[data-tile="held"]').wait_for(state="attached")
    playwright.expect(page.locator("#overall")).to_be_hidden()
    follow(f"run={run_id}&beside={second_id}", "b/cg-sense")
    look("two-runs", images=5)
    page.evaluate("() => { location.hash = 'run=0123'; }")
    playwright.expect(page.locator("#banner")).to_be_visible()
    look("error", images=5)
    assert f"run={run_id}&beside={second_id}" in page.url, "the address names what is shown"
    page.locator("#banner button").last.click()
    follow(f"run={run_id}", "kspace")
    playwright.expect(page.locator("#overall")).to_be_hidden()
    for theme in ("dark", "light"):
        assert page.locator("html").get_attribute("data-theme") == theme
        to_images(page)
        stage = page.locator("#stage")
        look(f"{theme}-grid", images=4)
        page.locator("#menu-open").click()
        look(f"{theme}-menu")
        page.locator("#menu-open").click()
        for state, keys, images in (
            ("difference", ["d"], 4),
            ("phase", ["f"], 4),
            ("region", ["f", "a", "Shift+ArrowDown"], 4),
            ("line", ["e", "Shift+ArrowDown"], 4),
            ("histogram", ["Escape", "w", "t"], 4),
            ("swipe", ["t", "s"], 1),
            ("one", ["o"], 1),
        ):
            for key in keys:
                stage.press(key)
            look(f"{theme}-{state}", images=images)
        stage.press("?")
        look(f"{theme}-help")
        page.keyboard.press("Escape")
        stage.press("Escape")
        for tab in ("scan", "results", "runs", "export"):
            open_pane(page, tab)
            look(f"{theme}-{tab}")
        page.locator("#theme").click()


def test_a_finger_scrolls_through_the_images_of_a_telephone(open_page: Any, run_id: str) -> None:
    page = open_page(f"#run={run_id}", device="telephone")
    page.locator('[data-tile="cg-sense"]').wait_for(state="attached")
    to_images(page)
    window = [page.locator(f"#window-{one}").input_value() for one in ("width", "level")]
    x, y = page.evaluate("""() => {
        const { left, right, top, bottom } = document.querySelector(".well canvas").getBoundingClientRect();
        return [(left + right) / 2, (top + bottom) / 2];
    }""")
    session = page.context.new_cdp_session(page)
    for step in range(21):
        points = [{"x": x, "y": y - 10 * step}]
        session.send("Input.dispatchTouchEvent", {"type": "touchMove" if step else "touchStart", "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function("() => document.getElementById('view').scrollTop > 100")
    assert [page.locator(f"#window-{one}").input_value() for one in ("width", "level")] == window
    page.locator('[data-tile="cg-sense"] canvas').scroll_into_view_if_needed()
    for text in ("CG-SENSE", "dB"):
        playwright.expect(page.locator('[data-tile="cg-sense"] figcaption')).to_contain_text(text)


def test_axe_finds_what_is_wrong(open_page: Any) -> None:
    """The check above can fail."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed").Axe()
    page = open_page()
    page.evaluate("() => document.getElementById('welcome-pick').style.setProperty('color', '#23282f')")
    page.evaluate("() => document.getElementById('acceleration').previousElementSibling?.remove()")
    page.evaluate("() => document.querySelector('label[for=acceleration]')?.remove()")
    found = {one["id"] for one in axe.run(page).response["violations"]}
    assert {"color-contrast", "label"} <= found


def _choose(page: Any, *methods: str) -> None:
    for box in page.locator("input[name=method]").all():
        if box.is_checked() != (box.get_attribute("value") in methods):
            box.click()


def test_each_image_appears_when_it_is_done(open_page: Any, held: Held, scan_file: Path) -> None:
    page = open_page()
    page.locator("#file").set_input_files(scan_file)
    _choose(page, "zero-filled", "held")
    page.evaluate("""() => {
        window.shares = [];
        const bar = document.getElementById("overall-bar");
        new MutationObserver(() => window.shares.push(bar.value)).observe(bar, { attributes: true });
    }""")
    page.locator("#run").click()
    expect = playwright.expect
    expect(page.locator('[data-tile="zero-filled"] canvas')).to_be_visible()
    expect(page.locator('[data-tile="reference"] canvas')).to_be_visible()
    expect(page.locator('[data-waiting="held"]')).to_contain_text("3 of 7")
    assert page.locator('[data-tile="held"]').count() == 0
    # What is there can be read, and is not lost when the rest comes.
    page.locator("#stage").press("ArrowDown")
    expect(page.locator("#slice-value")).to_have_text("3 of 3")
    page.wait_for_function("() => location.hash.includes('slice=3')")
    link = page.evaluate("() => location.hash")
    held.go.set()
    expect(page.locator('[data-tile="held"] canvas')).to_be_visible()
    expect(page.locator("#metrics")).to_be_visible()
    assert page.locator("#slice-value").inner_text() == "3 of 3"
    expect(page.locator("#overall")).to_be_hidden()
    shares = page.evaluate("() => window.shares")
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert page.evaluate("() => location.hash") == link


def test_a_run_is_followed_from_its_link(open_page: Any, held: Held, server: httpx.Client, scan_file: Path) -> None:
    """Another page, which never sent the scan, sees the images as they come."""
    files = {"file": ("scan.h5", scan_file.read_bytes())}
    data = {"methods": "zero-filled,held", "acceleration": "3"}
    job = server.post("/v1/compare", files=files, data=data, headers={"Prefer": "respond-async"}).json()["id"]
    page = open_page(f"#run={job}")
    playwright.expect(page.locator('[data-tile="zero-filled"] canvas')).to_be_visible()
    assert page.locator('[data-waiting="held"]').count() == 1
    held.go.set()
    playwright.expect(page.locator('[data-tile="held"] canvas')).to_be_visible()


def test_a_link_opens_what_was_seen(open_page: Any, run_id: str) -> None:
    page = open_page(f"#run={run_id}")
    stage = page.locator("#stage")
    playwright.expect(page.locator('[data-tile="cg-sense"] canvas')).to_be_visible()
    for key in ("End", "o", "ArrowRight", "3", "+", "i"):
        stage.press(key)
    page.wait_for_function("() => location.hash.includes('invert')")
    link, single = page.evaluate("() => location.hash"), page.locator("#single").input_value()
    window = page.locator("#window-width").input_value()
    other = open_page(link)
    playwright.expect(other.locator("#stage canvas")).to_be_visible()
    assert other.locator("#slice-value").inner_text() == "3 of 3"
    assert other.locator("#single").input_value() == single
    assert other.locator("#preset").input_value() == "dark"
    assert other.locator("#window-width").input_value() == window
    assert other.locator("#zoom-value").text_content() == "1.25×"
    assert other.locator("#invert").is_checked()
    assert other.locator("#acceleration").input_value() == "3", "and what it was made with"
    assert other.evaluate("() => location.hash") == link


@pytest.mark.parametrize(
    ("fragment", "says"),
    [("#run=0123", "not kept any more"), ("#run=../../etc", None), ("#slice=2", None)],
)
def test_links_that_open_nothing(open_page: Any, fragment: str, says: str | None) -> None:
    page = open_page(fragment)
    if says is None:
        playwright.expect(page.locator("#banner")).to_be_hidden()
    else:
        playwright.expect(page.locator("#banner")).to_contain_text(says)
    playwright.expect(page.locator("#welcome-sample")).to_be_visible()


def test_two_runs_side_by_side(open_page: Any, server: httpx.Client, run_id: str, second_id: str) -> None:
    page = open_page(f"#run={run_id}")
    playwright.expect(page.locator('[data-tile="cg-sense"] canvas')).to_be_visible()
    open_pane(page, "runs")
    page.locator(f'[data-run="{second_id}"]').get_by_role("button", name=re.compile("Put beside")).click()
    for tile in ("reference", "a/cg-sense", "b/cg-sense"):
        playwright.expect(page.locator(f'[data-tile="{tile}"] canvas')).to_be_visible()
    assert page.locator('[data-tile="kspace"]').count() == 0
    assert "A · CG-SENSE" in page.locator('[data-tile="a/cg-sense"] figcaption').inner_text()
    assert re.match(r"A: .*R = 3, seed 0 · B: .*R = 2, seed 0", page.locator("#scan-name").inner_text())
    assert page.locator("#shown-line").inner_text() == page.locator("#scan-name").inner_text()
    assert "different scans" not in page.locator("#shared-warnings").inner_text()
    page.locator('[data-tile="b/cg-sense"] canvas').hover()
    row, column = map(int, re.findall(r"\d+", page.locator("#readout").inner_text()))
    for tile, run in (("a/cg-sense", run_id), ("b/cg-sense", second_id)):
        value = float(arrays_of(server, run)["image.cg-sense"][1, row, column])
        assert float(page.locator(f'[data-tile="{tile}"] .value').inner_text()) == pytest.approx(value, rel=2e-3)
    page.wait_for_function("() => location.hash.includes('beside')")
    other = open_page(page.evaluate("() => location.hash"))
    playwright.expect(other.locator('[data-tile="b/cg-sense"] canvas')).to_be_visible()


def test_runs_of_other_scans_are_told_apart(
    open_page: Any, start: Callable[..., str], run_id: str, npy: Any, kspace: Any
) -> None:
    axes = "slice coil readout phase"
    alike = start(npy(kspace(3, 2, 24, 37, seed=5)), "other.npy", axes=axes)
    smaller = start(npy(kspace(3, 2, 22, 37)), "smaller.npy", axes=axes)
    page = open_page(f"#run={run_id}&beside={alike}")
    playwright.expect(page.locator('[data-tile="b/cg-sense"] canvas')).to_be_visible()
    assert "A and B are different scans: each has its own window." in page.locator("#shared-warnings").inner_text()
    assert page.locator('[data-tile="a/reference"]').count() == page.locator('[data-tile="b/reference"]').count() == 1
    page = open_page(f"#run={run_id}&beside={smaller}")
    playwright.expect(page.locator("#banner")).to_contain_text("images of different sizes, 3 x 24 x 37 and 3 x 22 x 37")
    assert page.locator('[data-tile="cg-sense"]').count() == 1


def test_a_run_can_be_deleted(open_page: Any, server: httpx.Client, start: Callable[..., str]) -> None:
    run = start(seed="77")
    page = open_page()
    open_pane(page, "runs")
    item = page.locator(f'[data-run="{run}"]')
    playwright.expect(item).to_contain_text("R = 3, seed 77")
    item.get_by_role("button", name=re.compile("Delete")).click()
    playwright.expect(item).to_have_count(0)
    assert server.get(f"/v1/jobs/{run}").status_code == 404


def test_the_card_of_a_dropped_scan(open_page: Any, scan_file: Path, kspace: Any, npy: Any) -> None:
    page = open_page()
    page.locator("#file").set_input_files(scan_file)
    card = page.locator("#card")
    for text in ("fastMRI HDF5", "3, 2", "24 × 37", "full", "2 × 1 × 4 mm", "axial"):
        playwright.expect(card).to_contain_text(text)
    expected = mr.random_mask(37, 4, seed=0)
    caption = page.locator("#live-caption")
    playwright.expect(caption).to_contain_text(f"{len(np.flatnonzero(expected.lines))} of 37 columns")
    page.locator("#acceleration").fill("2")
    page.locator("#seed").fill("9")
    expected = mr.random_mask(37, 2, seed=9)
    achieved = expected.receipt()["realised_acceleration"]
    playwright.expect(caption).to_contain_text(f"R = 2 requested, {achieved:.2f} achieved")
    strip = "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, 1).data].filter((_, i) => i % 4 === 0)"
    shown = page.locator("#live-strip").evaluate(strip)
    assert [i for i, red in enumerate(shown) if red] == np.flatnonzero(expected.lines).tolist()
    playwright.expect(page.locator("#run")).to_contain_text("about")
    page.locator("#center").fill("0.99")
    playwright.expect(caption).to_contain_text("centre")
    # Axes that the file does not name are the user's to choose.
    content = npy(kspace(1, 4, 24, 37)[0])
    page.locator("#file").set_input_files({"name": "array.npy", "mimeType": "x", "buffer": content})
    playwright.expect(card).to_contain_text("axes")
    card.locator('[data-axes="coil readout phase"]').click()
    playwright.expect(card).to_contain_text("1, 4")
    assert page.locator("#axes").input_value() == "coil readout phase"
    page.locator("#file").set_input_files(scan_file)
    playwright.expect(card).to_contain_text("fastMRI HDF5")
    assert page.locator("#axes").input_value() == "", "axes of one file are not those of the next"


def test_an_undersampled_scan_is_reconstructed_from_its_zeros(open_page: Any, kspace: Any, npy: Any) -> None:
    """The choices stand in the middle of the page, in place of a button that would be refused."""
    mask = mr.random_mask(37, 3, seed=1)
    content = npy(mr.undersample(kspace(1, 2, 24, 37), mask).numpy())
    page = open_page()
    page.locator("#file").set_input_files({"name": "a.npy", "mimeType": "x", "buffer": content})
    page.locator("#reading summary").click()
    page.locator("#axes").fill("slice coil readout phase")
    page.locator("#axes").press("Tab")
    playwright.expect(page.locator("#card")).to_contain_text("undersampled, no mask in the file")
    _choose(page, "zero-filled")
    middle = page.locator("#welcome-trouble")
    playwright.expect(middle).to_contain_text("No mask is known for this scan")
    playwright.expect(page.locator("#run")).to_be_disabled()
    playwright.expect(page.locator("#welcome-go")).to_be_hidden()
    middle.locator("[data-cure=zeros]").click()
    playwright.expect(page.locator("#live-caption")).to_contain_text("12 of 37 columns")
    playwright.expect(page.locator("#card .note.error")).to_have_count(0)
    playwright.expect(middle).to_be_empty()
    page.locator("#run").click()
    playwright.expect(page.locator('[data-tile="zero-filled"] canvas')).to_be_visible()
    assert "12 of 37 columns" in page.locator("#pane-results").inner_text()


def test_settings_that_changed_are_told(open_page: Any, run_id: str, scan_file: Path) -> None:
    page = open_page(f"#run={run_id}")
    playwright.expect(page.locator('[data-tile="cg-sense"] canvas')).to_be_visible()
    open_pane(page, "scan")
    stale = page.locator("#stale")
    playwright.expect(stale).to_be_hidden()
    page.locator("#seed").fill("4")
    playwright.expect(stale).to_have_text("The images shown were made with other settings.")
    page.locator("#seed").fill("0")
    playwright.expect(stale).to_be_hidden()
    page.locator("#file").set_input_files(scan_file)
    page.locator("#run").click()
    playwright.expect(page.locator("#metrics")).to_be_visible()
    open_pane(page, "scan")
    playwright.expect(stale).to_be_hidden()
    page.locator("#file").set_input_files({"name": "else.h5", "mimeType": "x", "buffer": scan_file.read_bytes()})
    playwright.expect(stale).to_have_text("The images shown are of placed.h5.")


def test_a_region_and_a_line_are_measured(open_page: Any, server: httpx.Client, run_id: str) -> None:
    page = open_page(f"#run={run_id}&slice=1")
    playwright.expect(page.locator('[data-tile="cg-sense"] canvas')).to_be_visible()
    stage = page.locator("#stage")
    for key in ("a", "Shift+ArrowDown"):
        stage.press(key)
    image = arrays_of(server, run_id)["image.cg-sense"][0]
    # An ellipse about the middle with a tenth of the shorter side as its radius.
    y, x = np.mgrid[:24, :37] + 0.5
    inside = ((y - 12) / 2.4) ** 2 + ((x - 18.5) / 2.4) ** 2 <= 1
    count = int(inside.sum())
    assert page.locator("#measured h2").inner_text() == f"Region of {count} pixels, {2 * count} mm², slice 1"
    cells = page.locator('[data-measured="cg-sense"] td').all_inner_texts()
    values = image[inside].astype(float)
    expected = [values.mean(), values.std(ddof=1), values.min(), values.max()]
    assert [float(text) for text in cells] == pytest.approx(expected, rel=1e-3)
    stage.press("Shift+ArrowRight")
    moved = image[((y - 12) / 2.4) ** 2 + ((x - 19.5) / 2.4) ** 2 <= 1]
    assert float(page.locator('[data-measured="cg-sense"] td').first.inner_text()) == pytest.approx(
        float(moved.mean()), rel=1e-3
    )
    # Along the columns a pixel has 1 mm, down the rows 2 mm; nothing moves under the pointer while the line is drawn.
    stage.press("Escape")
    stage.press("e")
    for right, down, distance in ((10, 0, 10), (0, 5, 10), (6, 4, 10)):
        box = page.locator('[data-tile="cg-sense"] canvas').bounding_box()  # another one once the numbers are open
        scale = min(box["width"] / 37, box["height"] / 48)
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + right * scale, middle[1] + 2 * down * scale, steps=3)
        page.mouse.up()
        said = re.search(r"Distance ([0-9.]+) mm", page.locator("#measured h2").inner_text())
        assert said is not None
        assert float(said[1]) == pytest.approx(distance, abs=0.35)
    script = """async () => {
        const { profile } = await import("/static/viewer/measure.js");
        const ramp = (i) => (i % 7) + 10 * Math.floor(i / 7);
        return [...profile(ramp, { a: { x: 0.5, y: 0.5 }, b: { x: 6.5, y: 4.5 } }, 7, 5)];
    }"""
    found = page.evaluate(script)
    np.testing.assert_allclose(found, np.linspace(0, 46, len(found)), atol=1e-4)
    for key in ("Escape", "w"):
        stage.press(key)
    playwright.expect(page.locator("#measured")).to_be_hidden()


def test_letters_stand_only_where_the_orientation_is_known(open_page: Any) -> None:
    page = open_page()
    script = """async (geometry) => {
        const { lettersOf, scaleBar } = await import("/static/viewer/geometry.js");
        return [lettersOf(geometry), scaleBar(geometry, 3, 100)];
    }"""
    known = {"voxel_size": [1.5, 0.75, 4], "toward": ["L", "PS"], "sides_assumed": False}
    letters, bar = page.evaluate(script, known)
    assert letters == {"right": "L", "left": "R", "bottom": "PS", "top": "AI"}
    assert bar == {"pixels": 80, "text": "2 cm"}  # 4 pixels a millimetre, at most 25 mm
    assert page.evaluate(script, {**known, "sides_assumed": True})[0] is None
    assert page.evaluate(script, {**known, "toward": None})[0] is None
    assert page.evaluate(script, None) == [None, None]


def test_letters_are_those_of_the_file(open_page: Any, run_id: str) -> None:
    """The geometry reaches the page: its letters, and pixels that are twice as high as wide."""
    page = open_page(f"#run={run_id}")
    tile = page.locator('[data-tile="cg-sense"] canvas')
    playwright.expect(tile).to_be_visible()

    playwright.expect(page.locator("#overall")).to_be_hidden()

    def painted() -> Any:
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return np.array(tile.evaluate("(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"))

    with_letters = painted()
    page.locator("#menu-open").click()
    page.locator("#overlay").uncheck()
    assert (painted() != with_letters).any()
    box = tile.bounding_box()
    scale = min(box["width"] / 37, box["height"] / 48)
    tile.hover(position={"x": box["width"] / 2 + 5 * scale, "y": box["height"] / 2 + 2 * 3.5 * scale})
    assert page.locator("#readout").inner_text() == "row 15, column 23"


def test_the_scale_of_differences_is_that_of_the_better_methods(open_page: Any, run_id: str) -> None:
    page = open_page(f"#run={run_id}")
    playwright.expect(page.locator('[data-tile="cg-sense"] canvas')).to_be_visible()
    script = """async (limits) => {
        const { Result, Volume } = await import("/static/viewer/result.js");
        const values = (value) => Float32Array.from({ length: 200 }, () => value);
        const flat = (value) => new Volume({ shape: [1, 1, 200], data: values(value) });
        const volumes = new Map([["reference", flat(100)], ...limits.map((one, i) => [`m${i}`, flat(100 - one)])]);
        const metadata = { results: limits.map((_, i) => ({ method: `m${i}` })) };
        return new Result({ metadata, volumes, trust: new Map(), phase: new Map(), kspace: null, mask: null })
            .differenceScale("reference", 0);
    }"""
    assert page.evaluate(script, [40, 4, 6]) == 6
    assert page.evaluate(script, [40]) == 40
    page.locator("#stage").press("d")
    usual = float(page.locator("#scale-ticks span").last.inner_text().rstrip("%"))
    page.locator("#scale").select_option("auto4")
    assert float(page.locator("#scale-ticks span").last.inner_text().rstrip("%")) == pytest.approx(usual / 4, rel=0.01)


def test_the_slices_play_and_stop(open_page: Any, run_id: str) -> None:
    page = open_page(f"#run={run_id}&slice=1")
    playwright.expect(page.locator("#slice-value")).to_have_text("1 of 3")
    page.locator("#play").click()
    playwright.expect(page.locator("#slice-value")).to_have_text("3 of 3")
    playwright.expect(page.locator("#slice-value")).to_have_text("1 of 3")
    page.locator("#play").click()
    playwright.expect(page.locator("#play")).to_have_attribute("aria-pressed", "false")


def test_the_phase_is_that_of_python(open_page: Any, scan_file: Path, run_id: str) -> None:
    scan = mr.load(scan_file)
    mask = mr.random_mask(37, 3, seed=0)
    image = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method="cg-sense").image.numpy()
    page = open_page(f"#run={run_id}&slice=2")
    tile = page.locator('[data-tile="cg-sense"] canvas')
    playwright.expect(tile).to_be_visible()
    page.locator("#stage").press("f")
    assert page.locator('[data-tile="cg-sense"] figcaption').inner_text() == "CG-SENSE, phase"
    box = tile.bounding_box()
    scale = min(box["width"] / 37, box["height"] / 48)
    tile.hover(position={"x": box["width"] / 2 + 3 * scale, "y": box["height"] / 2 + 2 * 2.5 * scale})
    row, column = map(int, re.findall(r"\d+", page.locator("#readout").inner_text()))
    expected = float(np.rad2deg(np.angle(image[1, row, column])))
    said = float(page.locator('[data-tile="cg-sense"] .value').inner_text().rstrip("°"))
    assert abs((said - expected + 180) % 360 - 180) < 1.3
    # The reference has none, and shows no magnitude under this name.
    assert page.locator('[data-tile="reference"] .value').inner_text() == "–"


def test_files_of_a_kept_run_come_without_the_scan(open_page: Any, run_id: str, server: httpx.Client) -> None:
    page = open_page(f"#run={run_id}")
    playwright.expect(page.locator('[data-tile="cg-sense"] canvas')).to_be_visible()
    open_pane(page, "export")
    for suffix, head in ((".h5", b"\x89HDF"), (".nii.gz", b"\x1f\x8b"), (".dcm.zip", b"PK")):
        page.locator("#save-format").select_option(suffix)
        with page.expect_download() as download:
            page.get_by_role("button", name=f"CG-SENSE ({suffix})").click()
        content = Path(download.value.path()).read_bytes()
        assert content.startswith(head), suffix
        assert download.value.suggested_filename.endswith(f"-cg-sense{suffix}")
    with page.expect_download() as download:
        page.locator("#save-json").click()
    assert b'"provenance"' in Path(download.value.path()).read_bytes()
