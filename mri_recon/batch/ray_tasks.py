"""Run a job on many files by Ray Data: on the cores of this machine, or on a cluster that shares its files."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mri_recon.batch.inputs import Input
from mri_recon.batch.jobs import Aide, Job, Outcome, perform
from mri_recon.batch.processes import THREAD_VARIABLES, use_threads
from mri_recon.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["run_on_ray"]


def run_on_ray(job: Job, items: Sequence[Input], *, threads: int, memory: int) -> Iterator[Outcome]:
    """Run a job on every input by tasks of Ray Data, and yield the outcome of each, in any order.

    Ray is started on this machine, unless the environment names a cluster (`RAY_ADDRESS`). Each task takes `threads`
    cores and the memory that the largest file needs, so that no more run at once than the memory allows.

    Args:
        job: the work.
        items: the inputs; the machines of a cluster must see the files under the same paths.
        threads: threads of each task.
        memory: bytes that one task takes.

    Raises:
        ConfigError: Ray Data is not installed.
        OutputError: a full disk.
    """
    ray = _ray()
    mine = not ray.is_initialized()
    if mine:
        variables = {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONWARNINGS": "ignore"}
        paths = os.pathsep.join(path for path in sys.path if path)
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=False,
            runtime_env={"env_vars": {**variables, "PYTHONPATH": paths}},
        )
    try:
        yield from _outcomes(ray, job, items, threads, memory)
    finally:
        if mine:
            ray.shutdown()


def _outcomes(ray: Any, job: Job, items: Sequence[Input], threads: int, memory: int) -> Iterator[Outcome]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a task whose process ended costs its file alone
    rows = [{"number": number, "item": pickle.dumps(item)} for number, item in enumerate(items)]
    available = ray.cluster_resources().get("memory", memory)
    done = set()

    def on_row(row: dict[str, Any]) -> dict[str, Any]:
        return _perform_row(job, threads, row)

    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    for row in data.map(on_row, num_cpus=threads, memory=min(memory, available)).iter_rows():
        done.add(row["number"])
        outcome = pickle.loads(row["outcome"])  # made by our own task
        if isinstance(outcome, str):
            raise OutputError(outcome, full=True)
        yield outcome
    for number, item in enumerate(items):
        if number not in done:
            yield Outcome(
                item.name,
                "the Ray task that worked on it ended: expected enough memory for this file, or a reader and a method "
                "that do not fail on it; try the file by itself",
            )


def _perform_row(job: Job, threads: int, row: dict[str, Any]) -> dict[str, Any]:
    """Do the work on one row of Ray Data."""
    use_threads(threads)
    item: Input = pickle.loads(row["item"])  # made by `run_on_ray`
    try:
        outcome: Outcome | str = perform(job, item, Aide())
    except Exception as error:  # a full disk
        outcome = str(error)
    return {"number": row["number"], "outcome": pickle.dumps(outcome)}


def _ray() -> ModuleType:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"--workers ray needs Ray Data, which is not installed ({error}): pip install 'mri-recon[ray]', or give a "
            "number of processes"
        ) from error
    module: ModuleType = ray  # of no known type where Ray is not installed
    return module
