"""Scanners' files over HTTP, and scans of which no picture may be drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mri_recon.io import save_scan
from mri_recon.io.pictures import NO_PICTURES
from tests.io.mrd_files import mrd, readouts_of, stream_header, write_stream, xml
from tests.io.scanner_files import lines_of, pfile, twix_ve

Post = Callable[..., httpx.Response]


def _whole_numbers(*shape: int) -> Any:
    rng = np.random.default_rng(0)
    return (rng.integers(-999, 999, shape) + 1j * rng.integers(-999, 999, shape)).astype(np.complex64)


@pytest.mark.parametrize("kind", ["dat", "7", "mrd", "h5"])
def test_a_scanners_file_is_reconstructed(kind: str, client: httpx.Client, post: Post, tmp_path: Path) -> None:
    kspace = _whole_numbers(2, 3, 24, 32)
    path = tmp_path / f"scan.{kind}"
    if kind == "dat":
        pytest.importorskip("twixtools")
        twix_ve(path, lines_of(kspace))
    elif kind == "mrd":
        pytest.importorskip("mrd")
        write_stream(path, readouts_of(kspace), stream_header((24, 32, 1)))
    elif kind == "h5":
        mrd(path, readouts_of(kspace), xml((24, 32, 1)))
    else:
        pfile(path, kspace)
    answer = post(client, path.read_bytes(), name=path.name, method="zero-filled", acceleration=2)
    assert answer.status_code == 200, answer.text
    whole = post(client, kspace, name="scan.npy", method="zero-filled", acceleration=2)
    images = [np.load(_bytes(one.content)) for one in (answer, whole)]
    np.testing.assert_allclose(images[0], images[1], rtol=1e-5, atol=1e-3)


def test_a_scan_that_may_not_be_pictured_is_refused(
    client: httpx.Client, post: Post, problem: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "scan.h5"
    save_scan(path, _whole_numbers(1, 2, 24, 32), attributes={"simulated": True, NO_PICTURES: True})
    answer = post(client, path.read_bytes(), name="scan.h5", method="zero-filled", acceleration=2)
    document = problem(answer, 422, "invalid-file")
    assert "marks no_pictures" in document["detail"]
    assert "the service" in document["detail"]


def _bytes(content: bytes) -> Any:
    import io

    return io.BytesIO(content)
