"""The data folder that a service of version 0.1 left behind when it was killed: results stay, work goes on."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon_service.settings import Settings
from tests.support.service import array_of, until_status

WRITTEN = Path(__file__).parents[1] / "written_by_0_1"


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of the stored jobs: two are done, one was running, two waited."""
    with closing(sqlite3.connect(f"file:{WRITTEN / 'jobs' / 'jobs.sqlite'}?immutable=1", uri=True)) as store:
        assert store.execute("PRAGMA user_version").fetchone() == (1,)
        found = store.execute("SELECT id, status FROM jobs ORDER BY seq").fetchall()
    names = ("done", "compared", "running", "waiting", "network")
    assert [status for _, status in found] == ["succeeded", "succeeded", "running", "queued", "queued"]
    return {name: f"/v1/jobs/{job}" for name, (job, _) in zip(names, found, strict=True)}


@pytest.fixture(scope="module")
def old(serve: Callable[[Settings], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service of this version on a copy of the folder."""
    folder = tmp_path_factory.mktemp("old") / "jobs"
    shutil.copytree(WRITTEN / "jobs", folder)
    with serve(Settings(data_dir=folder)) as client:
        yield client


def test_results_are_read(old: httpx.Client, jobs: dict[str, str], tmp_path: Path) -> None:
    image = array_of(old.get(f"{jobs['done']}/result", headers={"Accept": "application/x-npy"}))
    (tmp_path / "old.h5").write_bytes(
        old.get(f"{jobs['done']}/result", headers={"Accept": "application/x-hdf5"}).content
    )
    assert image.shape == (1, 28, 54)
    assert np.isfinite(image).all()
    scan = WRITTEN / "scans" / "0.h5"
    replayed = CliRunner().invoke(build_app(), ["replay", str(tmp_path / "old.h5"), "--input", str(scan)])
    assert replayed.exit_code == 0, replayed.output
    comparison = old.get(f"{jobs['compared']}/result", headers={"Accept": "application/json"}).json()
    assert [row["method"] for row in comparison["results"]] == ["zero-filled", "cs-wavelet"]


def test_jobs_that_ran_or_waited_go_on(old: httpx.Client, jobs: dict[str, str]) -> None:
    for name in ("running", "waiting", "network"):
        until_status(old, jobs[name], "succeeded")
        image = array_of(old.get(f"{jobs[name]}/result", headers={"Accept": "application/x-npy"}))
        assert image.shape == (1, 28, 54)
        assert np.isfinite(image).all()


def test_a_repeated_request_is_the_job_of_then(old: httpx.Client, jobs: dict[str, str]) -> None:
    scan = (WRITTEN / "scans" / "0.h5").read_bytes()
    answer = old.post(
        "/v1/reconstructions",
        files={"file": ("0.h5", scan)},
        data={"method": "cs-wavelet", "acceleration": "4"},
        headers={"Prefer": "respond-async", "Idempotency-Key": "first"},
    )
    assert answer.status_code in (200, 202, 303), answer.text
    assert jobs["done"] in answer.text or jobs["done"] in answer.headers.get("Location", ""), answer.text
