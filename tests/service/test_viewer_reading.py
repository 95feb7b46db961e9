"""What a reader takes from the viewer: grays that mean the same for everyone, words that say what a number means."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.viewer import BROWSER, arrays_of, open_pane, rewritten

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: no browser tests")
pytestmark = BROWSER

AXES = "slice coil readout phase"
AMBER = (0xF0, 0xB3, 0x5A)
WRITTEN = """() => {
    window.written = [];
    const kind = CanvasRenderingContext2D.prototype, write = kind.fillText;
    kind.fillText = function (text, x, y, ...more) {
        const wide = this.measureText(text).width, room = this.canvas.width / this.getTransform().a;
        const at = { right: x - wide, center: x - wide / 2 }[this.textAlign] ?? x;
        const fits = at >= 0 && at + wide <= room + 1;
        window.written.push({ text, fits, squeezed: more.length > 0, own: !this.canvas.isConnected });
        return write.call(this, text, x, y, ...more);
    };
}"""
"""Note every text that is written on a canvas, and whether it fits or is squeezed."""


def _show(page: Any, tile: str = "cg-sense") -> Any:
    canvas = page.locator(f'[data-tile="{tile}"] canvas')
    playwright.expect(canvas).to_be_visible()
    playwright.expect(page.locator("#overall")).to_be_hidden()
    return canvas


def _painted(page: Any, tile: str) -> np.ndarray[Any, Any]:
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    address = page.locator(f'[data-tile="{tile}"] canvas').evaluate("(canvas) => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


def _link(page: Any, *parts: str) -> str:
    """The fragment of the address, once it has these parts."""
    page.wait_for_function("(parts) => parts.every((one) => location.hash.includes(one))", arg=list(parts))
    return str(page.evaluate("() => location.hash"))


def _saved(page: Any) -> Image.Image:
    open_pane(page, "export")
    with page.expect_download() as download:
        page.locator("#save-png").click()
    return Image.open(Path(download.value.path())).convert("RGB")


def _amber(pixels: Any) -> int:
    return int(np.all(np.abs(np.asarray(pixels, int) - AMBER) < 40, axis=-1).sum())


def _changed(server: httpx.Client, run: str, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    """The npz of a run after `change(arrays, metadata)`."""
    return rewritten(arrays_of(server, run), change)


def _answer(page: Any, run: str, content: bytes) -> None:
    """Answer with these bytes when the result of a run is asked for."""
    page.route(
        f"**/v1/jobs/{run}/result",
        lambda route: route.fulfill(status=200, content_type="application/x-npz", body=content),
    )


@pytest.fixture(scope="module")
def uneven_id(start: Callable[..., str], kspace: Any, npy: Any) -> str:
    """A run whose slices are of very different brightness."""
    bright = np.array([1, 2, 5], np.float32)[:, None, None, None]
    return start(npy(kspace(3, 2, 24, 37) * bright), "uneven.npy", axes=AXES)


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5"])
def test_grays_after_scrolling_are_those_of_the_link(
    open_page: Any, server: httpx.Client, uneven_id: str, key: str
) -> None:
    """A preset is of the whole scan, wherever it was chosen."""
    page = open_page(f"#run={uneven_id}&slice=1")
    _show(page)
    page.locator("#stage").press(key)
    page.locator("#stage").press("End")
    other = open_page(_link(page, "slice=3"))
    _show(other)
    reference = arrays_of(server, uneven_id)["reference"]
    usual = np.percentile(reference, 99)
    low, high = {"1": (0, usual), "2": (0, reference.max()), "3": (0, usual / 2), "4": (0, usual / 10),
                 "5": (usual / 4, 0.75 * usual)}[key]  # fmt: skip
    for one in (page, other):
        width, level = (float(one.locator(f"#window-{name}").input_value()) for name in ("width", "level"))
        assert (width, level) == pytest.approx((high - low, (high + low) / 2), rel=1e-3)
    np.testing.assert_array_equal(_painted(page, "cg-sense"), _painted(other, "cg-sense"))


def test_the_scale_of_differences_is_one_for_all_slices(open_page: Any, uneven_id: str) -> None:
    page = open_page(f"#run={uneven_id}&slice=1")
    _show(page)
    page.locator("#stage").press("d")
    ends = []
    for _ in range(3):
        ends.append(page.locator("#scale-ticks span").last.inner_text())
        page.locator("#stage").press("ArrowDown")
    assert len(set(ends)) == 1
    other = open_page(_link(page, "slice=3", "show=difference"))
    _show(other)
    assert other.locator("#scale-ticks span").last.inner_text() == ends[0]
    np.testing.assert_array_equal(_painted(page, "cg-sense"), _painted(other, "cg-sense"))


def test_percentiles_are_those_of_numpy(open_page: Any) -> None:
    page = open_page()
    script = """async ([values, q]) => {
        const { percentile } = await import("/static/viewer/pixels.js");
        return percentile(Float32Array.from(values), q);
    }"""
    generator = np.random.default_rng(3)
    for values in ([2.5], [0, 1], generator.exponential(size=999), np.repeat([0.0, 1, 7e-9], 50), [0.1, 40000, 3]):
        single = np.asarray(values, np.float32)
        for q in (0, 50, 99, 99.5, 100):
            found = page.evaluate(script, [single.tolist(), q])
            assert found == pytest.approx(float(np.percentile(single.astype(float), q)), rel=1e-6)


def test_the_check_is_told_in_words(open_page: Any) -> None:
    """0 dB looks like no error, and is the worst."""
    script = """async (report) => {
        const { Result } = await import("/static/viewer/result.js");
        const metadata = { results: [{ method: "m", info: { holdout: report, warnings: ["W"] } }] };
        const volume = { slices: 1, height: 1, width: 1 };
        return new Result({ metadata, volumes: new Map([["m", volume]]) }).remarks("m");
    }"""
    reference = {"zero-filled": {"error_db": -0.01}}
    report = {"error_db": -0.04, "uncertainty_db": 0.01, "noise_floor_db": -11.4, "held_lines": 4,
              "references": reference}  # fmt: skip
    warning, check = open_page().evaluate(script, report)
    assert warning == {"kind": "warning", "text": "W"}
    for text in (check["text"], check["short"]):
        assert "error 0.0 ± 0.0 dB" in text
        assert "0 dB: predicts nothing; lower is better" in text
        assert "-0.0" not in text


@pytest.fixture(scope="module")
def bright_id(start: Callable[..., str], kspace: Any, npy: Any) -> str:
    """A run of another scan, in other units and without a header."""
    return start(npy(1000 * kspace(3, 2, 24, 37, seed=5)), "bright.npy", axes=AXES)


def test_two_scans_have_each_their_window_scale_and_mark(
    open_page: Any, server: httpx.Client, run_id: str, bright_id: str
) -> None:
    """A in its own units with the bar of the scale; B, a thousand times as bright, marked as simulated."""
    page = open_page()
    _answer(page, bright_id, _changed(server, bright_id, lambda _, metadata: metadata.update(simulated=True)))
    page.evaluate("(hash) => { location.hash = hash; }", f"run={run_id}&beside={bright_id}&slice=2")
    _show(page, "b/cg-sense")
    page.locator("#smooth").evaluate("(box) => box.click()")
    for tile, run, aspect in (("a/cg-sense", run_id, 2), ("b/cg-sense", bright_id, 1)):
        arrays = arrays_of(server, run)
        shown = _painted(page, tile)
        height, width = shown.shape[:2]
        scale = min(width / 37, height / (24 * aspect))
        for row, column in ((12, 18), (9, 20), (14, 11)):
            x = int(width / 2 + (column + 0.5 - 18.5) * scale)
            y = int(height / 2 + (row + 0.5 - 12) * scale * aspect)
            gray = 255 * min(
                1.0, float(arrays["image.cg-sense"][1, row, column] / np.percentile(arrays["reference"], 99))
            )
            assert shown[y, x].tolist() == pytest.approx([gray] * 3, abs=2), (tile, row, column)
        assert (_amber(shown[:25, :100]) > 30) == (run == bright_id), "the mark of simulated data"
        bar = np.all(shown[-14:-6, -60:] == 255, axis=-1).sum()
        assert (bar > 20) == (run == run_id), "the bar of the scale"
    assert "of B ×" in page.locator("#scale-unit").inner_text()
    page.locator("#stage").press("d")
    page.locator("#against").select_option("a/cg-sense")
    page.locator('[data-tile="b/zero-filled"] canvas').hover()
    assert page.locator('[data-tile="b/zero-filled"] .value').inner_text() == "–", "no difference between two scans"


def test_the_saved_view_writes_nothing_squeezed_or_cut(
    open_page: Any, server: httpx.Client, run_id: str, bright_id: str
) -> None:
    """Side by side with warnings and a check under narrow images; a figure is no part of the warning."""
    page = open_page()
    page.evaluate(WRITTEN)
    said = "A_very_long_name_of_a_file_that_has_no_spaces_at_all.h5 is odd"
    report = {"error_db": -3.21, "uncertainty_db": 1, "noise_floor_db": -9, "held_lines": 4, "references": {}}

    def warn(_: dict[str, Any], metadata: dict[str, Any]) -> None:
        for row in metadata["results"]:
            row["info"] |= {
                "warnings": [said],
                "holdout": report,
            }

    _answer(page, bright_id, _changed(server, bright_id, warn))
    page.evaluate("(hash) => { location.hash = hash; }", f"run={run_id}&beside={bright_id}")
    _show(page, "b/cg-sense")
    _saved(page)
    written = [one for one in page.evaluate("() => window.written") if one["own"]]
    assert [one for one in written if one["squeezed"] or not one["fits"]] == []
    texts = [one["text"] for one in written]
    assert any(text.startswith("hold-out check") for text in texts), "on a line of its own"
    assert any(text.startswith("A: ") for text in texts)


def test_a_mask_that_was_guessed_is_told(open_page: Any, start: Callable[..., str], kspace: Any, npy: Any) -> None:
    samples = kspace(1, 2, 24, 37)
    samples[..., [3, 4, 8, 9, 13, 29, 33]] = 0
    run = start(npy(samples), "zeros.npy", axes=AXES, mask="from-zeros", acceleration="")
    page = open_page()
    page.evaluate(WRITTEN)
    page.evaluate("(hash) => { location.hash = hash; }", f"run={run}")
    _show(page)
    assert "Mask taken from zeros" in page.locator("#shared-warnings").inner_text()
    assert "mask taken from zeros" in page.locator("#pane-results .mask-caption").inner_text()
    _saved(page)
    assert any(re.search("Mask taken from zeros", one["text"]) for one in page.evaluate("() => window.written"))


@pytest.mark.parametrize("name", ["IM0001.dcm", "photo.png", "brain.nii.gz"])
def test_a_file_of_images_cannot_be_started(open_page: Any, scan_file: Path, name: str) -> None:
    """The estimate of the file before is gone, and the page says what the viewer needs."""
    page = open_page()
    page.locator("#file").set_input_files(scan_file)
    run = page.locator("#run")
    playwright.expect(run).to_contain_text("about")
    page.locator("#file").set_input_files({"name": name, "mimeType": "x", "buffer": b"images"})
    for place in ("#card", "#welcome-trouble"):
        playwright.expect(page.locator(place)).to_contain_text("The viewer needs raw k-space")
    playwright.expect(run).to_be_disabled()
    playwright.expect(run).to_have_text("Reconstruct")
    playwright.expect(page.locator("#welcome-go")).to_be_hidden()
    assert "".join(page.locator(".method-time").all_inner_texts()) == ""
    page.locator("#file").set_input_files(scan_file)
    playwright.expect(run).to_be_enabled()
    playwright.expect(page.locator("#welcome-go")).to_be_visible()


def test_keys_belong_to_the_images_after_a_click_on_the_bar(open_page: Any, run_id: str) -> None:
    """Whoever came to a button by the keyboard keeps the focus there."""
    page = open_page(f"#run={run_id}&slice=1")
    _show(page)
    page.locator("input[name=show][value=difference]").click()
    page.keyboard.press("ArrowDown")
    playwright.expect(page.locator("#slice-value")).to_have_text("2 of 3")
    assert page.locator("input[name=show][value=difference]").is_checked()
    page.locator("input[name=layout][value=swipe]").click()
    page.keyboard.press("g")
    page.keyboard.press("+")
    page.keyboard.press("Space")
    playwright.expect(page.locator("#zoom-value")).to_have_text("1×")
    assert page.locator("input[name=layout][value=grid]").is_checked()
    page.locator("input[name=show][value=difference]").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("input[name=show][value=image]").is_checked()
    playwright.expect(page.locator("#slice-value")).to_have_text("2 of 3")


def test_formats_that_lack_a_library_cannot_be_chosen(open_page: Any, server: httpx.Client) -> None:
    page = open_page()
    assert page.locator("#save-format option:disabled").count() == 0
    assert page.locator("#save-needs").get_attribute("hidden") is not None
    models = server.get("/v1/models").json()
    install = "pip install 'mri-recon[clinical]'"
    for one in models["formats"]:
        if one["suffix"] in (".dcm", ".dcm.zip", ".nii.gz"):
            one |= {"available": False, "needs": install}
    page.route("**/v1/models", lambda route: route.fulfill(json=models))
    page.reload()
    page.wait_for_selector("input[name=method]", state="attached")
    refused = page.locator("#save-format option:disabled")
    assert refused.evaluate_all("(all) => all.map((one) => one.value)") == [".dcm.zip", ".dcm", ".nii.gz"]
    assert all(f"needs {install} on the server" in text for text in refused.all_inner_texts())
    assert page.locator("#save-needs").text_content() == f".dcm.zip, .dcm, .nii.gz: needs {install} on the server."
    assert page.locator("#save-format").input_value() == ".h5"


def _drag(page: Any, tile: str, *to: float) -> None:
    box = page.locator(f'[data-tile="{tile}"] canvas').bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + to[0], y + to[1], steps=3)


def test_images_stay_where_they_are_while_a_line_is_drawn(open_page: Any, run_id: str) -> None:
    page = open_page(f"#run={run_id}")
    _show(page)
    well = page.locator('[data-tile="cg-sense"] .well')
    before = well.bounding_box()
    page.locator("input[name=tool][value=line]").click()
    assert well.bounding_box() == before
    _drag(page, "cg-sense", 40, 10)
    assert well.bounding_box() == before
    page.mouse.up()
    playwright.expect(page.locator("#measured h2")).to_contain_text("Distance")


def test_a_profile_has_an_axis_a_reading_and_one_unit(open_page: Any, run_id: str) -> None:
    page = open_page(f"#run={run_id}&slice=2")
    page.evaluate(WRITTEN)
    _show(page)
    for key in ("e", "Shift+ArrowDown"):
        page.locator("#stage").press(key)
    plot = page.locator(".profile")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    written = page.evaluate("() => window.written")
    assert all(one["fits"] for one in written)
    texts = [one["text"] for one in written]
    length = re.search(r"Distance ([0-9.]+) mm", page.locator("#measured h2").inner_text())
    assert length is not None
    assert f"{float(length[1]):g} mm" in texts
    ratio = "(one) => [one.width / one.clientWidth, one.height / one.clientHeight]"
    wide, high = plot.evaluate(ratio)
    assert wide == pytest.approx(high, rel=0.02), "letters are not stretched"
    box = plot.bounding_box()
    plot.hover(position={"x": box["width"] / 2, "y": 60})
    assert re.search(r"at [0-9.]+ mm", page.locator(".plot-place").inner_text())
    assert all(re.search(r" [0-9.]+", text) for text in page.locator(".plot-legend .numbers").all_inner_texts()[:-1])
    page.locator("#stage").press("d")
    shown = page.locator(".plot-legend").inner_text()
    assert "image" not in shown, "a magnitude has no place on an axis of per cent"
    assert "|CG-SENSE − Reference|" in shown
    for key in ("Escape", "a", "Shift+ArrowDown"):
        page.locator("#stage").press(key)
    rows = page.locator("[data-measured]")
    assert rows.count() == 2
    assert all(re.search(r"\d\.\d\d %", text) for text in rows.all_inner_texts())


def test_another_scan_beside_old_images_is_told_apart(open_page: Any, run_id: str, npy: Any, kspace: Any) -> None:
    """Also where the images were opened by a link, so that their file is not here."""
    page = open_page(f"#run={run_id}")
    _show(page)
    content = npy(kspace(1, 2, 24, 37))
    page.locator("#file").set_input_files({"name": "next.npy", "mimeType": "x", "buffer": content})
    name = page.locator("#scan-name").inner_text()
    playwright.expect(page.locator("#shown-line")).to_have_text(
        f"Shown: {name}. Chosen, not reconstructed yet: next.npy."
    )
    playwright.expect(page.locator("#stale")).to_have_text(f"The images shown are of {name}.")


def test_estimates_are_ranges(open_page: Any) -> None:
    script = """async (times) => {
        const { roughly } = await import("/static/viewer/form.js");
        return times.map(roughly);
    }"""
    said = open_page().evaluate(script, [0.01, 1, 9.7, 60, 300])
    assert said == ["1 s", "1 to 2 s", "5 to 20 s", "30 to 100 s", "3 to 10 min"]


def test_narrow_images_have_their_marks_below(open_page: Any, server: httpx.Client, run_id: str) -> None:
    """In small tiles they would hide anatomy; and nothing on the page vanishes when a region is drawn."""
    page = open_page(device="tablet")
    page.set_viewport_size({"width": 720, "height": 900})
    _answer(page, run_id, _changed(server, run_id, lambda _, metadata: metadata.update(simulated=True)))
    page.evaluate("(hash) => { location.hash = hash; }", f"run={run_id}")
    _show(page)
    shown = _painted(page, "cg-sense")
    ratio = page.evaluate("() => window.devicePixelRatio")
    strip = round(18 * ratio)
    assert _amber(shown[-strip:]) > 20
    assert _amber(shown[:-strip]) == 0
    for key in ("a", "Shift+ArrowDown"):
        page.locator("#stage").press(key)
    playwright.expect(page.locator("#measured")).to_be_visible()
    for part in ("#window-width", "#slice", "#scale-ticks"):
        playwright.expect(page.locator(part)).to_be_visible()


def test_a_mask_that_fits_no_scan_cannot_be_started(open_page: Any, scan_file: Path) -> None:
    page = open_page()
    page.locator("#file").set_input_files(scan_file)
    run = page.locator("#run")
    playwright.expect(page.locator("#card")).to_contain_text("fastMRI HDF5")
    page.locator("#acceleration").fill("200")
    playwright.expect(page.locator("#welcome-trouble")).to_contain_text("This mask does not fit the scan")
    playwright.expect(run).to_be_disabled()
    page.locator("#acceleration").fill("2")
    playwright.expect(run).to_be_enabled()
    playwright.expect(page.locator("#welcome-trouble")).to_be_empty()


def test_the_service_is_quoted_in_the_words_of_the_page(open_page: Any) -> None:
    """Fields have the names that stand beside them, and the scan has the name that its user gave it."""
    script = """async (texts) => {
        const { callFile, inWords, plainly } = await import("/static/viewer/words.js");
        callFile("my scan.npy");
        return [...texts.map(inWords), plainly("max_iters"), plainly("maps")];
    }"""
    texts = ["take fewer (center_fraction or num_low_frequencies)", "expected slice coil readout phase in upload.npy"]
    assert open_page().evaluate(script, texts) == [
        "take fewer (centre fraction)",
        "expected slice coil readout phase in my scan.npy",
        "iterations at most",
        "finding coil sensitivities",
    ]
