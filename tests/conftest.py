"""Fixtures that every test may use, and the rule that real data at hand is real data used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline and no complaint about speed: machines are busy. Fixed examples on CI: a failure there is the change's.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

_DATA = "MRI_RECON_DATA"
_skipped_real_data: list[str] = []


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the registered real data; skips, with the reason, where `MRI_RECON_DATA` is unset."""
    root = os.environ.get(_DATA)
    if not root:
        pytest.skip(f"real data: set {_DATA} to a folder laid out like the data registry")
    path = Path(root)
    if not path.is_dir():
        pytest.fail(f"{_DATA} names {path}, which is not a folder")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever asks for the real data is marked so; nobody has to remember the marker."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note real-data tests that are skipped although the data is said to be there."""
    if os.environ.get(_DATA) and report.skipped and "real_data" in report.keywords and not hasattr(report, "wasxfail"):
        _skipped_real_data.append(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which they were."""
    for nodeid in _skipped_real_data:
        terminalreporter.write_line(f"{_DATA} is set, but this real-data test was skipped: {nodeid}", red=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skipped real-data test fails the run where the data is there: a skip must not look like a pass."""
    if _skipped_real_data and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
