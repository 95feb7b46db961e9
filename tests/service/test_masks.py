"""`/v1/masks`: the mask that an upload with the same fields gets."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import mri_recon as mr
from mri_recon_service.answers.png import gray_png
from mri_recon_service.settings import Settings

Check = Callable[..., dict[str, Any]]
FIELDS = {"width": 210, "acceleration": 4, "seed": 3}


def test_the_receipt_is_the_librarys(client: httpx.Client) -> None:
    for answer in (client.get("/v1/masks", params=FIELDS), client.post("/v1/masks", json=FIELDS)):
        assert answer.status_code == 200
        document = answer.json()
        assert document.pop("research_only").startswith("Research only")
        assert document == json.loads(json.dumps(mr.random_mask(210, 4, seed=3).receipt()))


def test_the_lines_and_the_picture(client: httpx.Client) -> None:
    fields = {**FIELDS, "mask_kind": "equispaced", "num_low_frequencies": 9, "height": 5}
    expected = mr.equispaced_mask(210, 4, seed=3, num_low_frequencies=9).lines
    lines = client.post("/v1/masks", json=fields, headers={"Accept": "application/x-npy"})
    assert lines.headers["content-type"] == "application/x-npy"
    np.testing.assert_array_equal(np.load(io.BytesIO(lines.content)), expected)
    picture = client.get("/v1/masks", params=fields, headers={"Accept": "image/png"})
    with Image.open(io.BytesIO(picture.content)) as image:
        np.testing.assert_array_equal(np.asarray(image), np.broadcast_to(255 * expected, (5, 210)))
        assert image.info["Disclaimer"].startswith("Research only")
        assert json.loads(image.info["Mask"])["num_low_frequencies"] == 9


def test_a_large_picture_takes_little_memory() -> None:
    mask = mr.random_mask(65536, 4, seed=0)
    picture = np.broadcast_to(mask.lines.astype(np.float32), (256, 65536))
    tracemalloc.start()
    try:
        content = gray_png(picture, high=1.0, text={})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * picture.size  # bytes; pictures are admitted with three a pixel
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(np.asarray(image), np.broadcast_to(255 * mask.lines, picture.shape))


def test_pictures_wait_for_memory(serve: Any, problem: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pictures of masks together have the memory of answers; lines need none."""
    monkeypatch.setattr("mri_recon_service.jobs.engine._PATIENCE_SECONDS", 0.0)
    fields = {"width": 1000, "acceleration": 4, "height": 1000}
    with serve(Settings(max_buffer_bytes=1 << 22)) as client:
        engine = client.app.state.engine
        with engine.memory(1 << 20):
            for answer in (
                client.get("/v1/masks", params=fields, headers={"Accept": "image/png"}),
                client.post("/v1/masks", json=fields, headers={"Accept": "image/png"}),
            ):
                assert answer.status_code == 200
        held = engine.buffers.take(1 << 22)
        assert held is not None
        problem(client.get("/v1/masks", params=fields, headers={"Accept": "image/png"}), 429, "busy")
        assert client.get("/v1/masks", params=fields).status_code == 200
        held.release()
        assert engine.buffers.used == 0


def test_a_picture_of_too_many_pixels(client: httpx.Client, problem: Check) -> None:
    fields = {"width": 65536, "acceleration": 4, "height": 4096}
    for answer in (
        client.get("/v1/masks", params=fields, headers={"Accept": "image/png"}),
        client.post("/v1/masks", json=fields, headers={"Accept": "image/png"}),
    ):
        assert "got 4096 rows of 65536: ask for at most 256 rows" in problem(answer, 422, "invalid-request")["detail"]
    assert client.get("/v1/masks", params=fields).status_code == 200  # its lines have no height


def test_an_upload_gets_this_mask(
    client: httpx.Client, post: Callable[..., httpx.Response], kspace: Callable[..., Any]
) -> None:
    fields = {"acceleration": 3, "seed": 8, "center_fraction": 0.1}
    drawn = client.get("/v1/masks", params={**fields, "width": 36}).json()
    answer = post(client, kspace(1, 1, 25, 36), to="/v1/validate", accept=None, methods="zero-filled", **fields)
    assert answer.json()["mask"]["lines"] == drawn["lines"]


def test_a_mask_on_a_support_is_that_of_the_upload(
    client: httpx.Client, post: Callable[..., httpx.Response], kspace: Callable[..., Any]
) -> None:
    """With columns that were never acquired at both ends and one that is dead."""
    array = kspace(1, 1, 25, 36)
    array[..., [0, 1, 10, 33, 34, 35]] = 0
    fields = {"acceleration": 3, "seed": 8}
    seen = post(client, array, to="/v1/validate", accept=None, methods="zero-filled", **fields).json()
    assert seen["scan"]["support"] == "2-9,11-32"
    drawn = client.get("/v1/masks", params={**fields, "width": 36, "support": seen["scan"]["support"]}).json()
    assert drawn["lines"] == seen["mask"]["lines"]
    assert drawn["support_width"] == 30


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"width": 32, "acceleration": 4, "support": "0-32"}, "invalid-request", "ranges of the columns 0 to 31"),
        ({"width": 32, "acceleration": 4, "support": "9-3"}, "invalid-request", "each from its first to its last"),
        ({"width": 32, "acceleration": 4, "support": "all"}, "invalid-request", "support"),
        ({"acceleration": 4}, "invalid-request", "width: Field required"),
        ({"width": 0, "acceleration": 4}, "invalid-request", "width"),
        ({"width": 10**9, "acceleration": 4}, "invalid-request", "less than or equal to 65536"),
        ({"width": 32, "acceleration": "NaN"}, "invalid-request", "finite"),
        ({"width": 32, "acceleration": 4, "colour": 1}, "invalid-request", "colour"),
        ({"width": 32, "acceleration": 4, "mask_kind": "spiral"}, "invalid-request", "'random' or 'equispaced'"),
        ({"width": 32, "acceleration": 0.5}, "invalid-mask", "acceleration"),
        ({"width": 32, "acceleration": 4, "num_low_frequencies": 30}, "invalid-mask", "30"),
        (
            {"width": 32, "acceleration": 4, "num_low_frequencies": 3, "center_fraction": 0.1},
            "invalid-mask",
            "centre|center",
        ),
    ],
)
def test_masks_that_cannot_be_drawn(
    client: httpx.Client, problem: Check, fields: dict[str, Any], code: str, says: str
) -> None:
    for answer in (client.get("/v1/masks", params=fields), client.post("/v1/masks", json=fields)):
        assert re.search(says, problem(answer, 422, code)["detail"])


def test_bodies_that_are_none(client: httpx.Client, problem: Check) -> None:
    for body in (b"", b"{", b"[]", b"null", b"\xff", b'"' + b"9" * 100 + b'"'):
        problem(client.post("/v1/masks", content=body), 422, "invalid-request")
    large = problem(client.post("/v1/masks", content=b" " * 20_000), 413, "upload-too-large")
    assert large["limit"] == 16384
    problem(client.get("/v1/masks", params=FIELDS, headers={"Accept": "text/html"}), 406, "not-acceptable")
