"""The parts of a comparison: each as soon as it is done, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from mri_recon.errors import ConfigError
from mri_recon_service.client import JobCancelledError, Part
from mri_recon_service.settings import Settings
from tests.support.methods import Steps
from tests.support.service import until

METHODS = ["zero-filled", "steps", "cg-sense"]


@pytest.fixture
def server(serve: Any) -> Iterator[httpx.Client]:
    with serve(Settings()) as one:
        yield one


@pytest.fixture
def scan(kspace: Callable[..., Any]) -> Any:
    return kspace(2, 2, 25, 36)


def _same(part: Part, whole: Any) -> None:
    np.testing.assert_array_equal(part.image, whole.images[part.name])
    row = next(row for row in whole.results if row["method"] == part.name)
    assert part.result == row
    if part.name in whole.phases:
        np.testing.assert_array_equal(part.phase, whole.phases[part.name])


def test_parts_come_while_others_still_run(connect: Any, server: httpx.Client, scan: Any, steps: Steps) -> None:
    job = connect(server).submit_comparison(scan, methods=METHODS, acceleration=3)
    parts = job.parts()
    first, second = next(parts), next(parts)
    assert job.status == "running"
    assert (first.name, second.name) == ("scan", "zero-filled")
    assert first.image is None
    assert first.result is None
    steps.go.release(1000)
    others = list(parts)
    assert [one.name for one in others] == ["steps", "cg-sense"]
    whole = job.result()
    np.testing.assert_array_equal(first.mask, whole.mask)
    np.testing.assert_array_equal(first.kspace, whole.kspace)
    np.testing.assert_array_equal(first.reference, whole.reference)
    for part in (second, *others):
        _same(part, whole)
    assert repr(second) == "Part(zero-filled, 2 x 25 x 36 (slice x h x w))"


def test_parts_of_a_comparison_that_has_ended(connect: Any, server: httpx.Client, scan: Any) -> None:
    job = connect(server).submit_comparison(scan, methods=["zero-filled", "cg-sense"], acceleration=3)
    whole = job.result()
    first, *others = job.parts()
    assert first.name == "scan"
    np.testing.assert_array_equal(first.mask, whole.mask)
    np.testing.assert_array_equal(first.reference, whole.reference)
    assert [one.name for one in others] == ["zero-filled", "cg-sense"]
    for part in others:
        _same(part, whole)


def test_a_reconstruction_has_no_parts(connect: Any, server: httpx.Client, scan: Any) -> None:
    job = connect(server).submit(scan, method="zero-filled", acceleration=3)
    with pytest.raises(ConfigError, match="expected a comparison, which has parts, got a job that is a reconstruction"):
        next(job.parts())


def test_a_cancelled_comparison_says_so(connect: Any, server: httpx.Client, scan: Any, steps: Steps) -> None:
    job = connect(server).submit_comparison(scan, methods=METHODS, acceleration=3)
    parts = job.parts()
    assert [next(parts).name, next(parts).name] == ["scan", "zero-filled"]
    job.cancel()
    steps.go.release(1000)
    with pytest.raises(JobCancelledError):
        list(parts)
    until(lambda: job.status == "cancelled")


def test_progress_of_an_older_service_is_read() -> None:
    from mri_recon.progress import Progress
    from mri_recon_service.client.events import _progress

    old = {"method": "m", "stage": "iterate", "iteration": 1, "total": 2, "objective": None, "relative_gap": None}
    assert _progress({**old, "newer": 3}) == Progress("m", "iterate", 1, 2)
    with pytest.raises(TypeError):
        _progress({"method": "m"})
