"""Prometheus' metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.settings import Settings


def _samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _read(metrics: Metrics, name: str, **labels: str) -> float:
    content, content_type = metrics.exposition(None)
    assert content_type.startswith("text/plain")
    return _samples(content.decode())[name, frozenset(labels.items())]


def test_what_is_told_is_counted() -> None:
    metrics = Metrics()
    metrics.observe_job("comparison", "failed", 3.0)
    metrics.observe_reconstruction("unet", 0.7, batch=4)
    metrics.observe_upload(1000)
    metrics.observe_upload(23)
    assert _read(metrics, "mri_recon_jobs_total", kind="comparison", status="failed") == 1
    assert _read(metrics, "mri_recon_job_seconds_sum", kind="comparison") == 3
    assert _read(metrics, "mri_recon_batch_size_sum", method="unet") == 4
    assert _read(metrics, "mri_recon_batch_size_bucket", method="unet", le="2.0") == 0
    assert _read(metrics, "mri_recon_reconstruction_seconds_count", method="unet") == 1
    assert _read(metrics, "mri_recon_uploaded_bytes_total") == 1023


def test_what_is_now_is_read_when_asked_for() -> None:
    metrics, waiting, started = Metrics(), {"direct": 5, "jobs": 0}, [2]
    metrics.watch(waiting=lambda: waiting, running_jobs=lambda: 1, parsers_started=lambda: started[0])
    assert _read(metrics, "mri_recon_queue_length", kind="direct") == 5
    waiting["jobs"], started[0] = 7, 3
    assert _read(metrics, "mri_recon_queue_length", kind="jobs") == 7
    assert _read(metrics, "mri_recon_running_jobs") == 1
    assert _read(metrics, "mri_recon_parsers_started_total") == 3
    metrics.watch(waiting=dict, running_jobs=lambda: 4, parsers_started=lambda: 0)  # started again
    assert _read(metrics, "mri_recon_running_jobs") == 4


def test_work_is_counted(serve: Any, post: Any, kspace: Any) -> None:
    with serve(Settings(sync_bytes=10_000)) as client:
        fields = {"method": "zero-filled", "acceleration": 3}
        assert post(client, kspace(1, 1, 25, 36), **fields).status_code == 200
        job = post(client, kspace(2, 1, 25, 36), **fields)
        assert job.status_code == 202
        with client.stream("GET", job.headers["location"] + "/events") as events:
            assert "event: end" in events.read().decode()
        text = client.get("/metrics").text
    found = _samples(text)
    assert found["mri_recon_reconstruction_seconds_count", frozenset({("method", "zero-filled")})] == 2
    ended = frozenset({("kind", "reconstruction"), ("status", "succeeded")})
    assert found["mri_recon_jobs_total", ended] == 1
    assert found["mri_recon_queue_length", frozenset({("kind", "jobs")})] == 0
    assert found["mri_recon_parsers_started_total", frozenset()] >= 1
    assert found["mri_recon_uploaded_bytes_total", frozenset()] > 3 * 25 * 36 * 8


def test_applications_share_nothing() -> None:
    one, two = Metrics(), Metrics()
    one.observe_upload(1)
    assert _read(two, "mri_recon_uploaded_bytes_total") == 0


def test_the_address(serve: Any, tmp_path: Path) -> None:
    with serve(Settings(data_dir=tmp_path)) as client:
        for _ in range(3):
            client.get("/v1/sample")
        client.get("/problems/nope")
        client.get("/no/such/place")
        client.request("PROPFIND", "/v1/sample")
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        found = _samples(answer.text)
        openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    name = "mri_recon_http_requests_total"
    assert found[name, frozenset({("method", "GET"), ("route", "/v1/sample"), ("status", "200")})] == 3
    assert found[name, frozenset({("method", "GET"), ("route", "/problems/{code}"), ("status", "404")})] == 1
    assert found[name, frozenset({("method", "GET"), ("route", "(no route)"), ("status", "404")})] == 1
    labels = {dict(labels).get("method") for key, labels in found if key == name}
    assert labels == {"GET", "OTHER"}
    assert found["mri_recon_http_request_seconds_count", frozenset({("route", "/v1/sample")})] >= 3
    assert any(key == "process_resident_memory_bytes" for key, _ in found)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
