"""Jobs over HTTP: accepted, followed, cancelled, fetched, expired; and that keys make a retry harmless."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import torch

import mri_recon as mr
from mri_recon.results.provenance import Provenance
from mri_recon_service.job import NewJob
from mri_recon_service.settings import Settings
from mri_recon_service.storage.store import Bounds
from tests.support.methods import Steps, add_method
from tests.support.patience import PATIENCE
from tests.support.service import array_of, until, until_status

Post = Callable[..., httpx.Response]
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def send(npy: Callable[[Any], bytes], kspace: Callable[..., Any]) -> Callable[..., httpx.Response]:
    """`send(client, headers, array=..., to=..., **fields)`, asynchronous unless the headers say otherwise."""

    def post(
        client: httpx.Client,
        headers: dict[str, str] = ASYNC,
        *,
        array: Any = None,
        to: str = "/v1/reconstructions",
        **fields: Any,
    ) -> httpx.Response:
        content = npy(kspace(1, 2, 25, 36) if array is None else array)
        data = {"acceleration": "3", **{name: str(value) for name, value in fields.items()}}
        return client.post(to, files={"file": ("scan.npy", content)}, data=data, headers=headers)

    return post


def _events(response: httpx.Response) -> list[dict[str, Any]]:
    found = []
    for block in response.text.replace("\r\n", "\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append({"id": int(lines["id"]), "event": lines["event"], "data": json.loads(lines["data"])})
    return found


def test_a_reconstruction_as_a_job(client: httpx.Client, send: Post, kspace: Callable[..., Any]) -> None:
    """Accepted at once, and in every representation the same as from Python."""
    answer = send(client, method="cg-sense", seed=5)
    assert answer.status_code == 202, answer.text
    assert answer.headers["preference-applied"] == "respond-async"
    document = answer.json()
    assert document["status"] == "queued"
    assert document["position"] >= 1
    assert "Research only" in document["research_only"]
    here = answer.headers["location"]
    assert document["links"] == {
        "self": here,
        "events": f"{here}/events",
        "result": f"{here}/result",
        "parts": f"{here}/parts/{{name}}",
        "methods": f"{here}/methods/{{method}}",
    }
    assert document["request"]["file"] == "upload.npy"
    assert document["request"]["fields"] == {"acceleration": "3", "method": "cg-sense", "seed": "5"}
    done = until_status(client, here, "succeeded")
    assert done["created"] <= done["started"] <= done["finished"] < done["expires"]
    assert done["position"] is None

    mask = mr.random_mask(36, 3, seed=5)
    expected = mr.reconstruct(mr.undersample(kspace(1, 2, 25, 36), mask), mask, method="cg-sense").image.numpy()
    npy = client.get(f"{here}/result", headers={"Accept": "application/x-npy"})
    np.testing.assert_array_equal(array_of(npy), expected)
    assert json.loads(npy.headers["x-mask-receipt"])["seed"] == 5
    bundle = array_of(client.get(f"{here}/result", headers={"Accept": "application/x-npz"}))
    np.testing.assert_array_equal(bundle["image"], expected)
    np.testing.assert_array_equal(bundle["mask"], mask.lines)
    with h5py.File(io.BytesIO(client.get(f"{here}/result").content)) as file:
        np.testing.assert_array_equal(file["reconstruction_complex"][()], expected)
    assert client.get(f"{here}/result", headers={"Accept": "image/png"}).content.startswith(b"\x89PNG")


def test_a_comparison_as_a_job(client: httpx.Client, send: Post, kspace: Callable[..., Any]) -> None:
    answer = send(client, to="/v1/compare", methods="zero-filled,cg-sense", array=kspace(2, 2, 25, 36))
    here = answer.headers["location"]
    until_status(client, here, "succeeded")
    document = client.get(f"{here}/result").json()
    assert [row["method"] for row in document["results"]] == ["zero-filled", "cg-sense"]
    assert set(document["provenance"]) == {"zero-filled", "cg-sense"}
    bundle = array_of(client.get(f"{here}/result", headers={"Accept": "application/x-npz"}))
    about = json.loads(bundle["metadata"].tobytes())
    assert about["results"] == document["results"]
    assert "reference" not in about["images"]
    assert bundle["image.cg-sense"].dtype == bundle["reference"].dtype == np.float32
    assert bundle["image.cg-sense"].shape == bundle["reference"].shape == (2, 25, 36)
    mask = mr.random_mask(36, 3, seed=0)
    magnitude = np.sqrt((np.abs(mr.undersample(kspace(2, 2, 25, 36), mask).numpy()) ** 2).sum(axis=1))
    with np.errstate(divide="ignore"):
        expected = np.maximum(np.log10(magnitude / magnitude.max()), -6)
    np.testing.assert_allclose(bundle["kspace"], expected, atol=1e-4)


@pytest.mark.parametrize("accept", ["application/x-hdf5", "application/x-npy", "application/x-npz", "image/png"])
def test_every_result_carries_its_provenance(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], npy: Callable[[Any], bytes], accept: str
) -> None:
    import hashlib

    from PIL import Image

    content = npy(kspace(1, 2, 25, 36))
    answer = post(client, content, method="cs-wavelet", acceleration=3, accept=accept, options={"max_iters": "3"})
    assert answer.status_code == 200, answer.text
    found = [answer.headers["x-provenance"]]
    body = io.BytesIO(answer.content)
    if accept == "application/x-hdf5":
        with h5py.File(body) as file:
            found.append(file.attrs["provenance"])
    elif accept == "application/x-npz":
        found.append(json.dumps(json.loads(np.load(body)["metadata"].tobytes())["provenance"]))
    elif accept == "image/png":
        with Image.open(body) as image:
            found.append(image.info["Provenance"])
    for text in found:
        provenance = Provenance.model_validate_json(text)
        assert provenance.input.sha256 == hashlib.sha256(content).hexdigest()
        assert provenance.input.bytes == len(content)
        assert provenance.options == {"max_iters": 3}
        assert provenance.stop == "max_iters"
        assert not provenance.batched


def test_events_and_their_resumption(serve: Any, send: Post, steps: Steps, problem: Callable[..., Any]) -> None:
    with serve(Settings()) as client:
        here = send(client, method="steps").headers["location"]
        assert steps.begun.wait(PATIENCE)
        steps.go.release(1)
        with client.stream("GET", f"{here}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            seen = []
            for line in stream.iter_lines():
                seen += [line] if line.startswith("event: ") else []
                if line == "event: progress":
                    steps.go.release(1000)  # it came while the method worked
            assert seen[:3] == ["event: status", "event: status", "event: progress"]
            assert seen[-1] == "event: end"
        until_status(client, here, "succeeded")
        everything = _events(client.get(f"{here}/events"))
        assert [one["id"] for one in everything] == sorted({one["id"] for one in everything})
        assert [one["data"]["status"] for one in everything[:2]] == ["queued", "running"]
        assert everything[-1]["event"] == "end"
        assert everything[-1]["data"]["status"] == "succeeded"
        progress = [one["data"] for one in everything if one["event"] == "progress"]
        assert progress[-1] == {
            "method": "steps",
            "stage": "iterate",
            "iteration": 100,
            "total": 100,
            "objective": 0.01,
            "relative_gap": None,  # JSON has no infinity
            "fraction": None,
        }
        middle = everything[len(everything) // 2]["id"]
        rest = _events(client.get(f"{here}/events", headers={"Last-Event-ID": str(middle)}))
        assert rest == [one for one in everything if one["id"] > middle]
        last = {"Last-Event-ID": str(everything[-1]["id"])}
        assert client.get(f"{here}/events", headers=last).status_code == 204
        for unknown, status in (("", 200), ("0", 200), (str(2**63 - 1), 204)):
            assert client.get(f"{here}/events", headers={"Last-Event-ID": unknown}).status_code == status
        for odd in ("x", "-1", "1.0", "²", "٣", str(2**63), "9" * 50, "9" * 5000):
            sent = {"Last-Event-ID": odd.encode()}
            said = problem(client.get(f"{here}/events", headers=sent), 400, "invalid-header")["detail"]
            assert "expected the id of an event in Last-Event-ID, got '" in said


def test_cancel_stops_between_iterations(
    serve: Any, send: Post, steps: Steps, problem: Callable[..., Any], tmp_path: Path
) -> None:
    with serve(Settings(data_dir=tmp_path)) as client:
        here = send(client, method="steps").headers["location"]
        waiting = send(client, method="zero-filled").headers["location"]
        assert steps.begun.wait(PATIENCE)
        problem(client.get(f"{here}/result"), 409, "job-not-finished")
        assert client.get(waiting).json()["position"] == 1
        # One that waits is cancelled at once, the running one before its next iteration.
        answer = client.delete(waiting)
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
        steps.go.release(3)
        while steps.done < 3:
            time.sleep(0.01)
        assert client.delete(here).status_code == 202
        steps.go.release(1)
        assert until_status(client, here, "cancelled")["problem"] is None
        assert steps.done == 3
        problem(client.get(f"{here}/result"), 409, "job-cancelled")
        assert _events(client.get(f"{here}/events"))[-1]["data"]["status"] == "cancelled"
        assert not list((tmp_path / "jobs").iterdir())
        for job in (here, waiting):
            assert client.delete(job).status_code == 204
            problem(client.get(job), 404, "job-not-found")
            problem(client.delete(job), 404, "job-not-found")
            problem(client.get(f"{job}/events"), 404, "job-not-found")
            problem(client.get(f"{job}/result"), 404, "job-not-found")


def test_a_finished_job_is_deleted_with_its_files(serve: Any, send: Post, tmp_path: Path) -> None:
    with serve(Settings(data_dir=tmp_path)) as client:
        here = send(client, method="zero-filled").headers["location"]
        until_status(client, here, "succeeded")
        (folder,) = (tmp_path / "jobs").iterdir()
        assert {path.name for path in folder.iterdir()} <= {"result.npz", "result.h5", "upload.npy"}
        assert client.delete(here).status_code == 204
        assert not list((tmp_path / "jobs").iterdir())


def test_wait(client: httpx.Client, serve: Any, send: Post, steps: Steps) -> None:
    answer = send(client, {"Prefer": "wait=30", "Accept": "application/x-npy"}, method="zero-filled")
    assert array_of(answer).shape == (1, 25, 36)
    with serve(Settings()) as own:
        answer = send(own, {"Prefer": "respond-async, wait=1"}, method="steps")
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "respond-async, wait=1"
        assert answer.json()["status"] == "running"
        steps.go.release(1000)


def test_large_scans_become_jobs(serve: Any, send: Post, kspace: Callable[..., Any]) -> None:
    full = kspace(1, 2, 25, 36)
    with serve(Settings(sync_bytes=full.nbytes)) as client:
        assert send(client, {}, method="zero-filled").status_code == 200
        larger = send(client, {}, method="zero-filled", array=kspace(2, 2, 25, 36))
        assert (larger.status_code, larger.headers["location"]) == (202, larger.json()["links"]["self"])
        two = send(client, {}, to="/v1/compare", methods="zero-filled,cg-sense")
        assert two.status_code == 202
        until_status(client, two.headers["location"], "succeeded")


def test_idempotency(serve: Any, send: Post, steps: Steps, problem: Callable[..., Any]) -> None:
    with serve(Settings()) as client:
        key = {"Idempotency-Key": "case-7", "Accept": "application/x-npy"}
        first = send(client, key, method="zero-filled")
        second = send(client, key, method="zero-filled")
        assert array_of(first).shape == (1, 25, 36)
        assert first.content == second.content
        assert first.headers["x-provenance"] == second.headers["x-provenance"]  # not done twice
        other = send(client, key, method="zero-filled", seed=1)
        assert "new key" in problem(other, 422, "idempotency-mismatch")["detail"]
        jobs = {send(client, {**ASYNC, "Idempotency-Key": "b"}, method="steps").json()["id"] for _ in range(3)}
        assert len(jobs) == 1
        assert steps.begun.wait(PATIENCE)
        running = send(client, {"Idempotency-Key": "b"}, method="steps")
        assert (running.status_code, {running.json()["id"]}) == (202, jobs)
        steps.go.release(1000)
        problem(send(client, {"Idempotency-Key": "k" * 256}, method="zero-filled"), 422, "invalid-request")
        gone = client.delete(f"/v1/jobs/{jobs.pop()}")
        assert gone.status_code in (202, 204)


def test_a_jobs_own_problem(client: httpx.Client, send: Post, problem: Callable[..., Any]) -> None:
    """What is wrong with the upload is said at once; what fails later is kept with the job."""
    problem(send(client, method="zero-filled", array=np.zeros((1, 1, 25, 36), np.complex64)), 422, "invalid-file")
    here = send(client, method="cs-wavelet", wavelet="nope").headers["location"]
    document = until_status(client, here, "failed")
    assert document["problem"]["code"] == "invalid-option"
    failed = problem(client.get(f"{here}/result"), 422, "invalid-option")
    assert failed["detail"] == document["problem"]["detail"]


def test_what_is_unexpected_fails_the_job(
    client: httpx.Client, send: Post, problem: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(kspace: torch.Tensor, mask: Any, *, sens_maps: Any) -> Any:
        raise RuntimeError("secret of the server")

    add_method(monkeypatch, "broken", broken)
    here = send(client, method="broken").headers["location"]
    document = until_status(client, here, "failed")
    assert document["problem"]["code"] == "internal-error"
    assert "secret" not in json.dumps(document)
    problem(client.get(f"{here}/result"), 500, "internal-error")


def test_deadlines(serve: Any, send: Post, steps: Steps, problem: Callable[..., Any]) -> None:
    with serve(Settings()) as client:
        here = send(client, method="steps", deadline_seconds=0.5).headers["location"]
        assert steps.begun.wait(PATIENCE)
        time.sleep(0.6)
        steps.go.release(1)
        document = until_status(client, here, "failed")
        assert document["problem"]["code"] == "timed-out"
        assert steps.done == 0
        steps.begun.clear()
        problem(send(client, {}, method="steps", deadline_seconds=0.5), 503, "timed-out")
        steps.go.release(1)  # the thread is free again after its next call
        assert send(client, {}, method="zero-filled").status_code == 200
        problem(send(client, {}, method="zero-filled", deadline_seconds=-1), 422, "invalid-request")


def test_results_expire(serve: Any, send: Post, problem: Callable[..., Any], tmp_path: Path) -> None:
    with serve(Settings(data_dir=tmp_path, result_ttl_seconds=2.0)) as client:
        here = send(client, {**ASYNC, "Idempotency-Key": "k"}, method="zero-filled").headers["location"]
        until_status(client, here, "succeeded")
        until(lambda: client.get(f"{here}/result").status_code != 200)
        problem(client.get(f"{here}/result"), 410, "result-expired")
        problem(send(client, {"Idempotency-Key": "k"}, method="zero-filled"), 410, "result-expired")
        assert client.get(here).json()["status"] == "succeeded"
        assert not list((tmp_path / "jobs").iterdir())
        until(lambda: client.get(here).status_code != 200)
        problem(client.get(here), 404, "job-not-found")


@pytest.mark.parametrize("hours", [25, -25])
@pytest.mark.parametrize("wait", [True, False])
def test_a_clock_that_is_set_fails_no_work_and_deletes_no_result(
    hours: int, wait: bool, serve: Any, send: Post, steps: Steps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = time.time
    with serve(Settings(data_dir=tmp_path)) as client, ThreadPoolExecutor() as background:
        kept = send(client, method="zero-filled").headers["location"]
        until_status(client, kept, "succeeded")
        headers = {"Accept": "application/x-npy"} if wait else ASYNC
        working = background.submit(send, client, headers, method="steps", deadline_seconds=600)
        assert steps.begun.wait(PATIENCE)
        monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
        store = client.app.state.engine.store
        looks, expire = [0], store.expire
        monkeypatch.setattr(store, "expire", lambda now: looks.append(0) or expire(now))
        until(lambda: len(looks) > 2)
        steps.go.release(1000)
        if wait:
            assert working.result().status_code == 200
        else:
            done = until_status(client, working.result().headers["location"], "succeeded")
            assert done["created"] <= done["started"] <= done["finished"] < done["expires"]
        assert client.get(f"{kept}/result").status_code == 200


def test_a_folder_of_a_job_that_is_just_accepted_is_kept_whatever_its_date(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Settings(data_dir=tmp_path)) as client:
        housekeeping = client.app.state.engine._housekeeping
        housekeeping.stop()
        housekeeping.join(PATIENCE)
        accepted, orphan = tmp_path / "jobs" / "accepted", tmp_path / "jobs" / "orphan"
        for folder in (accepted, orphan):
            folder.mkdir()
            os.utime(folder, (0, 0))
        housekeeping._sweep()
        assert accepted.exists()
        assert orphan.exists()
        client.app.state.engine.store.add(
            NewJob(id="accepted", kind="reconstruction", client="", request={}, created=0.0), Bounds(9)
        )
        housekeeping._sweep()
        assert accepted.exists()
        assert not orphan.exists()


def test_the_queue_of_jobs_is_bounded(serve: Any, send: Post, steps: Steps, problem: Callable[..., Any]) -> None:
    with serve(Settings(max_queued_jobs=1)) as client:
        send(client, method="steps")
        assert steps.begun.wait(PATIENCE)
        assert send(client, method="zero-filled").status_code == 202
        full = send(client, method="zero-filled")
        problem(full, 429, "busy")
        assert int(full.headers["retry-after"]) > 0
        steps.go.release(1000)


def test_too_much_memory(serve: Any, send: Post, problem: Callable[..., Any]) -> None:
    with serve(Settings(max_memory_bytes=1000)) as client:
        for headers in ({}, ASYNC):
            answer = problem(send(client, headers, method="zero-filled"), 413, "too-much-memory")
            assert answer["limit"] == 1000
            assert "fewer slices" in answer["detail"]


@pytest.mark.parametrize("headers", [{}, ASYNC], ids=["direct", "job"])
def test_a_batch_equals_the_single_answers(
    serve: Any,
    send: Post,
    steps: Steps,
    kspace: Callable[..., Any],
    tiny_model: str,
    headers: dict[str, str],
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    scans = [kspace(1, 2, 25, 36, seed) for seed in range(4)]
    masks = [mr.random_mask(36, 3, seed=seed) for seed in range(4)]
    accept = {"Accept": "application/x-npy"}
    with serve(Settings()) as client, ThreadPoolExecutor() as pool:
        send(client, method="steps")  # holds the only worker until all of them wait
        assert steps.begun.wait(PATIENCE)

        def one(seed: int) -> httpx.Response:
            answer = send(client, {**headers, **accept}, array=scans[seed], method="unet", seed=seed)
            if not headers:
                return answer
            here = answer.headers["location"]
            until_status(client, here, "succeeded")
            return client.get(f"{here}/result", headers=accept)

        answers = [pool.submit(one, seed) for seed in range(4)]
        engine = client.app.state.engine
        while (engine.store.queued() if headers else engine.schedule.waiting) < 4:
            time.sleep(0.01)
        steps.go.release(1000)
        for scan, mask, answer in zip(scans, masks, answers, strict=True):
            alone = mr.reconstruct(mr.undersample(scan, mask), mask, method="unet").image.numpy()
            got = answer.result()
            assert np.abs(array_of(got) - alone).max() <= 1e-5 * np.abs(alone).max()
            assert json.loads(got.headers["x-provenance"])["batched"]
