"""Every test runs as on a stranger's machine: no network, no data set, a home of its own; real data at hand is used.

A test that needs the registered data asks for the fixture `real_data` or bears that mark. It alone sees
`MRI_RECON_DATA`, and is skipped, with the reason, where the variable is unset. No test reaches another machine, nor
does a Python process that it starts: see `support/no_network`.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.no_network import sitecustomize as no_network

# No deadline and no complaint about speed: machines are busy. Fixed examples on CI: a failure there is the change's.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Read by torch, which is not imported yet. Workers share the cores, one thread each. Threads that wait for each other
# sleep: where they spin, as they do by default, a machine that is busy with something else is thirty times as slow.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell has commands in the background ignore Ctrl-C, which every process of the tests would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_DATA = "MRI_RECON_DATA"
_HOME = "HOME_OF_MRI_RECON_TESTS"  # the home that these tests, their workers and their processes share
_NO_DATA = f"real data: set {_DATA} to a folder laid out like the data registry"
_skipped_real_data: list[str] = []
_named_data = pytest.StashKey[str]()
_own_home = pytest.StashKey[Path]()


@pytest.fixture(scope="session")
def real_data(request: pytest.FixtureRequest) -> Path:
    """Folder of the registered real data."""
    return Path(request.config.stash[_named_data])


@pytest.fixture(autouse=True)
def _no_attempt_to_reach_the_network() -> Iterator[None]:
    """Code that makes something else of the refusal than an error is found too."""
    no_network.attempts.clear()
    yield
    assert not no_network.attempts, "a test reached for another machine"


def pytest_configure(config: pytest.Config) -> None:
    """Take away what a stranger has not: data, caches, settings, a network."""
    worker = getattr(config, "workerinput", {})
    config.stash[_named_data] = os.environ.pop(_DATA, "") or worker.get(_DATA, "")
    if _HOME not in os.environ:
        home = config.stash[_own_home] = Path(tempfile.mkdtemp(prefix="mri-recon-tests-"))
        os.environ[_HOME] = str(home)
        os.environ.update(HOME=str(home), USERPROFILE=str(home), LOCALAPPDATA=str(home / "AppData"))
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            os.environ.pop(name, None)
    folder = str(Path(no_network.__file__).parent)
    path = os.environ.get("PYTHONPATH")
    if folder not in (path or "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *([path] if path else [])])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the data is."""
    node.workerinput[_DATA] = node.config.stash[_named_data]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the home."""
    if _own_home in config.stash:
        shutil.rmtree(config.stash[_own_home], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whoever asks for the real data; nobody has to remember the marker."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Show the data to the tests that are marked so, and to their fixtures."""
    data = item.config.stash[_named_data]
    if item.get_closest_marker("real_data") is None or not data:
        return (yield)
    os.environ[_DATA] = data
    try:
        return (yield)
    finally:
        os.environ.pop(_DATA, None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test without its data; data that is named and missing is a mistake."""
    if item.get_closest_marker("real_data") is None:
        return
    data = item.config.stash[_named_data]
    if not data:
        pytest.skip(_NO_DATA)
    if not Path(data).is_dir():
        pytest.fail(f"{_DATA} names {data}, which is not a folder", pytrace=False)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note real-data tests that are skipped although the data is said to be there."""
    if report.skipped and "real_data" in report.keywords and not hasattr(report, "wasxfail"):
        _skipped_real_data.append(report.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which they were."""
    for nodeid in _skipped_real_data if config.stash[_named_data] else ():
        terminalreporter.write_line(f"{_DATA} is set, but this real-data test was skipped: {nodeid}", red=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skipped real-data test fails the run where the data is there: a skip must not look like a pass."""
    if session.config.stash[_named_data] and _skipped_real_data and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
