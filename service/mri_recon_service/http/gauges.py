"""Collect the numbers that alerts need: readiness, the oldest waiting job, lost jobs, bytes on the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mri_recon_service.problems import Problem

__all__ = ["Gauge", "Gauges"]

log = logging.getLogger("mri_recon_service")


@dataclass(frozen=True)
class Gauge:
    """One number that is read at each scrape.

    Attributes:
        name: name of the metric.
        meaning: its description.
        read: returns the number.
    """

    name: str
    meaning: str
    read: Callable[[], float]


class Gauges(Collector):
    """Gauges of one application. One that cannot be read is left out, so that the others still arrive."""

    def __init__(self, gauges: Iterable[Gauge]) -> None:
        self._gauges = tuple(gauges)

    def describe(self) -> Iterable[Metric]:
        """Describe nothing: no number is read before a scrape."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Read every gauge."""
        for one in self._gauges:
            try:
                value = one.read()
            except (OSError, Problem) as error:
                log.warning("metric %s cannot be read: %s", one.name, error)
                continue
            yield GaugeMetricFamily(one.name, one.meaning, value=value)
