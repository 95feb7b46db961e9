"""Run processes that do the jobs of a service without serving HTTP: the verb `mri-recon worker`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mri_recon.errors import ConfigError

if TYPE_CHECKING:
    from mri_recon_service.settings import Settings

__all__ = ["worker"]

_WRONG_SETTINGS = 2  # exit status of a process that cannot start
_LOOK_SECONDS = 0.2
_RESTART_SECONDS = 1.0
_STOP_SECONDS = 10.0


def worker(
    device: Annotated[
        list[str] | None, typer.Option(help="Device that computes, e.g. cuda:0; give it once for each [cpu]")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Number of processes for each device")] = 1,
) -> None:
    """Do the jobs that services with the same store accept, until Ctrl-C or SIGTERM. Research only.

    The settings are those of `serve`, from the environment: give both the same. See docs/service/cluster.md.

    Example: mri-recon worker --device cuda:0 --device cuda:1
    """
    from mri_recon_service.cli import read_settings

    settings = read_settings()
    devices = [one for one in device or [settings.device] for _ in range(processes)]
    if len(devices) == 1:
        _work(settings.model_copy(update={"device": devices[0]}))
    else:
        _supervise(devices)


def _work(settings: Settings) -> None:
    """Do jobs in this process until it is told to stop. What runs then goes back to the queue."""
    from mri_recon.methods.estimates import Estimates
    from mri_recon.notice import RESEARCH_ONLY
    from mri_recon_service.buffers import Buffers
    from mri_recon_service.http import logs
    from mri_recon_service.http.prometheus import Metrics
    from mri_recon_service.http.security import check_exposure
    from mri_recon_service.jobs.engine import open_engine
    from mri_recon_service.targets import read_targets
    from mri_recon_service.uploads.parser_pool import ParserPool

    if settings.worker_threads == 0:
        raise ConfigError("expected a worker that works, got MRI_RECON_WORKER_THREADS=0: set it for `serve` alone")
    logs.configure(settings)
    targets = read_targets(settings.targets_file, os.environ)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    buffers = Buffers(settings.buffer_bytes)
    parser = ParserPool(settings, buffers)
    parser.start()
    try:
        if settings.exposed:
            check_exposure(settings, parser.restrictions.lacks)
        engine = open_engine(settings, parser, buffers, Estimates(), Metrics(), targets)
        engine.start()
        typer.echo(f"mri-recon works on jobs, on {settings.device}. {RESEARCH_ONLY} Ctrl-C stops it.")
        stop.wait()
        engine.close()
    finally:
        parser.close()


def _supervise(devices: Sequence[str]) -> None:
    """Keep a process for each device, and start another when one ends.

    Raises:
        ConfigError: a process cannot start.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    running = [_started(one) for one in devices]
    try:
        while not stop.wait(_LOOK_SECONDS):
            for index, process in enumerate(running):
                status = process.poll()
                if status == _WRONG_SETTINGS:
                    raise ConfigError(f"expected a process on {devices[index]}, it does not start: see its message")
                if status is not None and not stop.wait(_RESTART_SECONDS):
                    typer.echo(f"the process on {devices[index]} ended ({status}): another is started", err=True)
                    running[index] = _started(devices[index])
    finally:
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(device: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "mri_recon.cli", "worker", "--device", device])
