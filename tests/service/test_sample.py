"""The embedded sample over HTTP."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import httpx
import pytest

import mri_recon as mr


def test_the_sample_is_a_scan(client: httpx.Client, tmp_path: Path) -> None:
    answer = client.get("/v1/sample")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-hdf5"
    assert answer.headers["content-disposition"] == 'attachment; filename="colin27_8ch.h5"'
    assert answer.headers["x-research-only"]
    assert answer.content == (files("mri_recon") / "_sample" / "colin27_8ch.h5").read_bytes()
    (tmp_path / "sample.h5").write_bytes(answer.content)
    assert mr.load(tmp_path / "sample.h5").kspace.shape == (4, 8, 151, 127)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("{tag}", 304),
        ("W/{tag}", 304),
        ('"other", {tag}', 304),
        ("*", 304),
        ('"other"', 200),
        ("", 200),
        ("{tag}x", 200),
    ],
)
def test_a_copy_that_is_still_good(client: httpx.Client, header: str, status: int) -> None:
    tag = client.get("/v1/sample").headers["etag"]
    answer = client.get("/v1/sample", headers={"If-None-Match": header.format(tag=tag)})
    assert answer.status_code == status
    assert answer.headers["etag"] == tag
    assert bool(answer.content) == (status == 200)
