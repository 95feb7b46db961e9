"""The alerts and the dashboard in service/deploy name metrics that exist, and the alerts fire when they should."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mri_recon_service.http.gauges import Gauge
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.problems import Problem
from mri_recon_service.readiness import Readiness
from mri_recon_service.settings import Settings
from mri_recon_service.storage.files import JobFiles
from mri_recon_service.storage.store import Bounds, JobStore
from tests.support.service import new_job

DEPLOY = Path(__file__).parents[3] / "service" / "deploy"
RULES = DEPLOY / "prometheus-rules.yml"
DASHBOARD = DEPLOY / "grafana-dashboard.json"

_OF_PROMETHEUS = {"up"}
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
_UNITS = {"none", "s", "bytes", "Bps", "reqps", "opm"}
"""Units that Grafana knows by these names."""


def _metrics_of(expression: str) -> set[str]:
    """List the names of metrics in an expression: words before `{` or `[`, and bare names of this service."""
    return set(re.findall(r"\b([a-z_:]+)(?=[{\[])", expression)) | set(re.findall(r"\bmri_recon_\w+", expression))


@pytest.fixture(scope="module")
def exposed(serve: Any) -> dict[str, str]:
    """Names of the samples that a running application may have: to the type of their metric."""
    with serve(Settings()) as client:
        text = client.get("/metrics").text
    return {
        family.name + suffix: family.type
        for family in text_string_to_metric_families(text)
        for suffix in _SUFFIXES[family.type]
        if not family.name.endswith("_created")  # time of a counter's beginning
    }


def _rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return panels


def _expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in _rules())
    for panel in _panels():
        yield from (target["expr"] for target in panel.get("targets", []))


def test_every_metric_exists(exposed: dict[str, str]) -> None:
    named = set().union(*map(_metrics_of, _expressions()))
    assert len(named) > 15
    assert named - _OF_PROMETHEUS <= exposed.keys()


def test_every_metric_is_of_the_kind_that_the_expression_needs(exposed: dict[str, str]) -> None:
    """`rate` and `increase` of a gauge are wrong numbers that look right, and so is a counter without them."""
    for expression in _expressions():
        grown = set(re.findall(r"\b(?:rate|increase)\((\w+)", expression))
        assert {exposed[name] for name in grown} <= {"counter", "histogram"}, expression
        rest = _metrics_of(expression) - grown - _OF_PROMETHEUS
        assert {exposed[name] for name in rest} <= {"gauge"}, expression


def test_every_metric_of_the_service_is_on_the_dashboard(exposed: dict[str, str]) -> None:
    shown = set().union(*(_metrics_of(target["expr"]) for panel in _panels() for target in panel.get("targets", [])))
    families = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in exposed if name.startswith("mri_recon_")}
    assert families <= {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in shown}


def test_every_rule_is_complete() -> None:
    rules = _rules()
    names = [rule["alert"] for rule in rules]
    assert len(set(names)) == len(names)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "action"}


def test_every_rule_is_on_the_page() -> None:
    page = (DEPLOY.parents[1] / "docs" / "service" / "operations.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)[: len(_rules())] == [rule["alert"] for rule in _rules()]


def test_every_rule_is_tested() -> None:
    tests = yaml.safe_load((Path(__file__).parent / "prometheus-rules-test.yml").read_text(encoding="utf-8"))["tests"]
    checked = [one for test in tests for one in test["alert_rule_test"]]
    fires = {one["alertname"] for one in checked if one.get("exp_alerts")}
    silent = {one["alertname"] for one in checked if not one.get("exp_alerts")}
    assert fires == silent == {rule["alert"] for rule in _rules()}


@pytest.mark.parametrize(
    "words",
    [("check", "rules", str(RULES)), ("test", "rules", str(Path(__file__).parent / "prometheus-rules-test.yml"))],
)
def test_promtool(words: tuple[str, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, of Debian's package prometheus, is not installed")
    done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_panels() -> None:
    panels = _panels()
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (one, other)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        for target in (panel, *panel["targets"]):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_variable_of_the_dashboard_is_defined() -> None:
    text = DASHBOARD.read_text(encoding="utf-8")
    dashboard = json.loads(text)
    defined = {one["name"] for one in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]+)", text)) == defined == {"datasource", "job", "instance"}
    assert dashboard["title"] == "mri-recon"


def _read(metrics: Metrics) -> dict[str, float]:
    text = metrics.exposition(None)[0].decode()
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


def test_a_gauge_that_cannot_be_read_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> float:
        raise Problem("storage-full", "no room")

    def unreadable() -> float:
        raise PermissionError(13, "denied")

    def waiting() -> dict[str, int]:
        raise Problem("busy", "held")

    metrics = Metrics()
    metrics.watch(
        waiting=waiting,
        running_jobs=lambda: 4,
        parsers_started=lambda: 1,
        gauges=[Gauge("a", "A.", fail), Gauge("b", "B.", unreadable), Gauge("c", "C.", lambda: 7.5)],
    )
    found = _read(metrics)
    assert (found["mri_recon_running_jobs"], found["c"]) == (4, 7.5)
    assert not {"a", "b", "mri_recon_queue_length"} & found.keys()
    assert "metric a cannot be read: no room" in caplog.text
    metrics.watch(waiting=dict, running_jobs=lambda: 0, parsers_started=lambda: 1)  # started again
    assert "c" not in _read(metrics)


def test_counters_of_alerts_begin_at_zero() -> None:
    """Prometheus sees no increase in a counter that begins at 1."""
    found = [
        (sample.name, sample.value)
        for family in text_string_to_metric_families(Metrics().exposition(None)[0].decode())
        for sample in family.samples
        if sample.name in ("mri_recon_jobs_total", "mri_recon_deliveries_total", "mri_recon_connections_closed_total")
    ]
    assert len(found) == 6 + 2 + 3
    assert {value for _, value in found} == {0.0}


def test_the_numbers_of_the_store(store: JobStore) -> None:
    assert (store.oldest_waiting(), store.failed_with("worker-lost")) == (None, 0)
    for number, created in enumerate((30.0, 20.0, 40.0)):
        store.add(new_job(f"j{number}", created=created), Bounds(9))
    assert store.oldest_waiting() == 20.0
    assert [job.id for job in store.claim("a", most=1)] == ["j0"]
    store.finish("j0", "a", "failed", problem={"code": "worker-lost", "detail": "", "extensions": {}}, expires=2e9)
    (second,) = store.claim("a", most=1)
    store.finish(second.id, "a", "failed", problem={"code": "busy", "detail": "", "extensions": {}}, expires=2e9)
    assert (store.oldest_waiting(), store.failed_with("worker-lost"), store.failed_with("busy")) == (40.0, 1, 1)


def test_the_bytes_of_the_folder(tmp_path: Path) -> None:
    files = JobFiles(tmp_path / "jobs", most_bytes=10)
    assert files.total() == 0
    for name, size in (("a", 3), ("b", 5)):
        files.folder(name).mkdir()
        (files.folder(name) / "result.npz").write_bytes(b"x" * size)
    assert files.total() == 8
    assert files.free() > 0


def test_ready_follows_the_health_address(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Readiness, "start", lambda self: None)
    with serve(Settings(max_stored_bytes=12345)) as client:
        for reason, status in (("loading", 503), (None, 200)):
            client.app.state.readiness.reason = reason
            assert client.get("/health/ready").status_code == status
            found = _read(client.app.state.metrics)
            assert found["mri_recon_ready"] == (status == 200)
        assert found["mri_recon_stored_bytes_limit"] == 12345
        assert found["mri_recon_stored_bytes"] == found["mri_recon_oldest_waiting_job_seconds"] == 0
