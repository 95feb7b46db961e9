"""Run a job on many files: those that are not done yet, in processes or on Ray, with every outcome in the journal."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mri_recon._system.memory import available_memory
from mri_recon.batch.inputs import Input
from mri_recon.batch.jobs import Aide, Job, Outcome
from mri_recon.batch.journal import Journal
from mri_recon.batch.processes import Report, run_in_processes
from mri_recon.errors import ConfigError

__all__ = ["RAY", "Counts", "default_workers", "parse_workers", "run_batch"]

RAY = "ray"
"""Number of workers that stands for Ray Data."""

_SHARE_OF_MEMORY = 0.8
_MOST_WORKERS = 256


@dataclass
class Counts:
    """Count the files of a run.

    Attributes:
        total: all files.
        resumed: those that an earlier run did, or for which it failed if they are not tried again.
        stale: those that an earlier run did with other settings or another version, and that are done again.
        done: finished so far, failed and resumed ones included.
        failed: failed so far.
    """

    total: int
    resumed: int = 0
    stale: int = 0
    done: int = 0
    failed: int = 0


def run_batch(
    job: Job,
    items: Sequence[Input],
    *,
    journal: Path | None,
    workers: int | str,
    threads: int = 1,
    retry_failed: bool = True,
    started: Callable[[Counts], None] = lambda counts: None,
    on_outcome: Callable[[Outcome, Counts], None] = lambda outcome, counts: None,
    report: Report = lambda name, text, done, total: None,
) -> list[Outcome]:
    """Run a job on files and return their outcomes, in the order of the files.

    An outcome depends on the file, the job and the number of threads alone: neither on `workers`, nor on the other
    files. A file that fails costs no other file.

    Args:
        job: the work.
        items: the files.
        journal: file of finished work, from which a later run resumes; None keeps none.
        workers: most files at once, or "ray" for Ray Data.
        threads: threads of each file.
        retry_failed: whether files that failed in an earlier run, and are unchanged, are tried again.
        started: called once before the work.
        on_outcome: called with every outcome that is new.
        report: told of the steps of the work; not on Ray.

    Raises:
        OutputError: a journal that cannot be written or that another command holds, or a full disk.
        ConfigError: Ray is not installed.
    """
    counts = Counts(len(items))
    found: dict[str, Outcome] = {}
    with nullcontext() if journal is None else Journal(journal, job.settings()) as kept:
        todo = []
        for item in items:
            outputs = job.outputs(item)
            earlier = None if kept is None else kept.finished(item, outputs, retry_failed=retry_failed)
            if earlier is None:
                todo.append(item)
                counts.stale += kept is not None and kept.has_other_settings(item)
            else:
                found[item.name] = earlier
        counts.resumed = counts.done = len(found)
        counts.failed = sum(one.failed for one in found.values())
        started(counts)
        with closing(_outcomes(job, todo, workers, threads, report)) as outcomes:
            for outcome in outcomes:
                if kept is not None:
                    kept.add(outcome)
                found[outcome.name] = outcome
                counts.done += 1
                counts.failed += outcome.failed
                on_outcome(outcome, counts)
    return [found[item.name] for item in items]


def default_workers(device: str | None, threads: int) -> int:
    """Choose how many files are processed at once: one for each core, or one alone on a GPU.

    `OMP_NUM_THREADS` bounds the cores that are used, as it does for a single file.
    """
    if device is not None and not str(device).startswith("cpu"):
        return 1
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    bound = os.environ.get("OMP_NUM_THREADS", "")
    if bound.isdigit() and int(bound) > 0:
        cores = min(cores, int(bound))
    return max(1, cores // threads)


def parse_workers(text: str | None, device: str | None, threads: int) -> int | str:
    """Read the option `--workers`: a number, "ray", or nothing for the default.

    Raises:
        ConfigError: anything else.
    """
    if text is None:
        return default_workers(device, threads)
    if text == RAY:
        return RAY
    if text.isdigit() and 1 <= int(text) <= _MOST_WORKERS:
        return int(text)
    raise ConfigError(f"--workers: expected a number from 1 to {_MOST_WORKERS}, or ray, got {text!r}: correct it")


def _outcomes(
    job: Job, items: Sequence[Input], workers: int | str, threads: int, report: Report
) -> Generator[Outcome, None, None]:
    if not items:
        return
    if isinstance(workers, int):
        memory = int(_SHARE_OF_MEMORY * available_memory())
        yield from run_in_processes(job, items, workers=workers, threads=threads, memory=memory, report=report)
        return
    from mri_recon.batch.ray_tasks import run_on_ray

    yield from run_on_ray(job, items, threads=threads, memory=_largest_need(job, items))


class _Needs(BaseException):
    """Carry the memory that a job asks for, out of the job."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__(num_bytes)
        self.num_bytes = num_bytes


def _largest_need(job: Job, items: Sequence[Input]) -> int:
    """Find the memory that the largest file needs: it is read here, and nothing is computed."""

    def reserve(num_bytes: int) -> None:
        raise _Needs(num_bytes)

    for item in sorted(items, key=Input.size, reverse=True):
        try:
            job.run(item, Aide(reserve))
        except _Needs as needs:
            return needs.num_bytes
        except Exception:  # a broken file, which its own task reports
            continue
    return 0
