"""Count and time the service's work for Prometheus, in a registry of one application.

Code that does work reports it by `observe_...`. Callables read the amount of waiting work at each scrape, see `watch`.
Labels are names of this package and patterns of routes, so their number is bounded and they hold no user data.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from mri_recon_service.http.gauges import Gauge, Gauges
from mri_recon_service.job import FINISHED, Kind
from mri_recon_service.problems import Problem

__all__ = ["Metrics"]

log = logging.getLogger("mri_recon_service")

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
_CLOSED = ("crowded", "header-timeout", "unread")
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Metrics of one application. Safe between threads."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._registry = registry
        self._watched: tuple[Collector, ...] = ()
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
        self._jobs = Counter("mri_recon_jobs", "Jobs that have ended.", ["kind", "status"], registry=registry)
        self._deliveries = Counter(
            "mri_recon_deliveries", "Deliveries of results that have ended.", ["state"], registry=registry
        )
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
        self._closed = Counter(
            "mri_recon_connections_closed", "Connections that the service closed.", ["reason"], registry=registry
        )
        # A counter that begins at 1 has not increased for Prometheus: these begin at 0.
        for kind, status in itertools.product(get_args(Kind), FINISHED):
            self._jobs.labels(kind, status)
        for state in ("delivered", "failed"):
            self._deliveries.labels(state)
        for reason in _CLOSED:
            self._closed.labels(reason)
        self._uploaded = Counter("mri_recon_uploaded_bytes", "Bytes of request bodies received.", registry=registry)

    def observe_closed_connection(self, reason: str) -> None:
        """Count one connection that the service closed: `reason` "crowded", "header-timeout" or "unread"."""
        self._closed.labels(reason).inc()

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request. Status 0 stands for a client that left."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def observe_job(self, kind: str, status: str, seconds: float) -> None:
        """Count one ended job: `kind` "reconstruction" or "comparison", `status` "succeeded", "failed", ..."""
        self._jobs.labels(kind, status).inc()
        self._job_seconds.labels(kind).observe(seconds)

    def observe_delivery(self, state: str) -> None:
        """Count one ended delivery: `state` "delivered" or "failed"."""
        self._deliveries.labels(state).inc()

    def observe_reconstruction(self, method: str, seconds: float, *, batch: int = 1) -> None:
        """Count one run of a method for `batch` requests."""
        self._reconstruction_seconds.labels(method).observe(seconds)
        self._batch_size.labels(method).observe(batch)

    def observe_upload(self, num_bytes: int) -> None:
        """Count the bytes of a received request body."""
        self._uploaded.inc(num_bytes)

    def watch(
        self,
        *,
        waiting: Callable[[], Mapping[str, int]],
        running_jobs: Callable[[], int],
        parsers_started: Callable[[], int],
        gauges: Iterable[Gauge] = (),
    ) -> None:
        """Set the callables that every scrape reads. Called once for each application that starts.

        Args:
            waiting: by kind: "direct" requests that run or wait here, "jobs" and "deliveries" that wait for any
                process.
            running_jobs: jobs that run here.
            parsers_started: processes started so far to read uploads.
            gauges: further numbers.
        """
        for former in self._watched:
            self._registry.unregister(former)
        self._watched = (_Now(waiting, running_jobs, parsers_started), Gauges(gauges))
        for collector in self._watched:
            self._registry.register(collector)

    def exposition(self, accept: str | None) -> tuple[bytes, str]:
        """Write the metrics in the form that a scraper's `Accept` asks for. Returns the text and its content type."""
        encode, content_type = choose_encoder(accept or "")
        return encode(self._registry), content_type


class _Now(Collector):
    """Collects the numbers that are read at each scrape."""

    def __init__(
        self,
        waiting: Callable[[], Mapping[str, int]],
        running_jobs: Callable[[], int],
        parsers_started: Callable[[], int],
    ) -> None:
        self._waiting = waiting
        self._running_jobs = running_jobs
        self._parsers_started = parsers_started

    def describe(self) -> Iterable[Metric]:
        return []  # no number is read before a scrape

    def collect(self) -> Iterable[Metric]:
        queue = GaugeMetricFamily(
            "mri_recon_queue_length",
            "Direct requests that run or wait, and jobs and deliveries that wait.",
            labels=["kind"],
        )
        try:
            for kind, count in self._waiting().items():
                queue.add_metric([kind], count)
        except Problem as error:  # a store that cannot be read: the other numbers still arrive
            log.warning("metric mri_recon_queue_length cannot be read: %s", error)
        yield queue
        yield GaugeMetricFamily("mri_recon_running_jobs", "Jobs that run here.", value=self._running_jobs())
        yield CounterMetricFamily(
            "mri_recon_parsers_started",
            "Processes started to read uploads: each reads a bounded number, and a fault ends one.",
            value=self._parsers_started(),
        )
