"""Counts and times for Prometheus, in a registry of one application.

Whoever works tells by `observe_...` what happened; how much waits right now is read through callables when asked for,
see `watch`. Labels are names of this package only, routes as patterns, so their number is bounded and no user data is
in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """What the service did and does. Safe between threads."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._registry = registry
        self._requests = Counter(
            "mri_recon_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "mri_recon_http_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._jobs = Counter("mri_recon_jobs", "Jobs that came to an end.", ["kind", "status"], registry=registry)
        self._job_seconds = Histogram(
            "mri_recon_job_seconds", "Time from acceptance to end.", ["kind"], buckets=_SECONDS, registry=registry
        )
        self._reconstruction_seconds = Histogram(
            "mri_recon_reconstruction_seconds",
            "Time of one run of a method, which may hold several requests.",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batch_size = Histogram(
            "mri_recon_batch_size", "Requests in one run of a method.", ["method"], buckets=_SIZES, registry=registry
        )
        self._parser_restarts = Counter(
            "mri_recon_parser_restarts",
            "Processes for reading uploads that were replaced.",
            ["reason"],
            registry=registry,
        )
        self._uploaded = Counter("mri_recon_uploaded_bytes", "Bytes of request bodies received.", registry=registry)
        self._queue = Gauge("mri_recon_queue_length", "Requests and jobs that wait.", registry=registry)
        self._queue.set(0)

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request was answered; status 0 stands for a client that left."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def observe_job(self, kind: str, status: str, seconds: float) -> None:
        """One job came to an end: `kind` "reconstruction" or "comparison", `status` "succeeded", "failed", ..."""
        self._jobs.labels(kind, status).inc()
        self._job_seconds.labels(kind).observe(seconds)

    def observe_reconstruction(self, method: str, seconds: float, *, batch: int = 1) -> None:
        """One run of a method for `batch` requests."""
        self._reconstruction_seconds.labels(method).observe(seconds)
        self._batch_size.labels(method).observe(batch)

    def observe_parser_restart(self, reason: str) -> None:
        """A parsing process was replaced: "recycled", "timeout", "died" or the like, a word of the program."""
        self._parser_restarts.labels(reason).inc()

    def observe_upload(self, num_bytes: int) -> None:
        """A request body of that many bytes came."""
        self._uploaded.inc(num_bytes)

    def watch(
        self,
        *,
        queue_length: Callable[[], int] | None = None,
        jobs_by_status: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        """Read these whenever the metrics are asked for."""
        if queue_length is not None:
            self._queue.set_function(queue_length)
        if jobs_by_status is not None:
            self._registry.register(_ByStatus(jobs_by_status))

    def exposition(self, accept: str | None) -> tuple[bytes, str]:
        """The metrics as text and its content type, in the form that a scraper's `Accept` asks for."""
        encode, content_type = choose_encoder(accept or "")
        return encode(self._registry), content_type


class _ByStatus:
    """The gauge of jobs by status, as they are right now."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = self._family()
        for status, count in self._read().items():
            family.add_metric([status], count)
        return [family]

    @staticmethod
    def _family() -> GaugeMetricFamily:
        return GaugeMetricFamily("mri_recon_jobs_now", "Jobs in the store by status.", labels=["status"])
