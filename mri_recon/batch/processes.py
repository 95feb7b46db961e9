"""Run a job on many files in several processes of this machine, as many at once as the memory allows.

Each process works on one file at a time, on a fixed number of threads, so that the number of processes changes no
result. A job says how much memory it needs once it has read its file, and waits until that much is free. A process that
ends, for example because the machine is out of memory, costs no other file: its file is tried once more by itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from mri_recon.batch.inputs import Input
from mri_recon.batch.jobs import Aide, Job, Outcome, perform
from mri_recon.errors import OutputError

__all__ = ["THREAD_VARIABLES", "run_in_processes", "use_threads"]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Environment variables by which libraries choose their number of threads when they are imported."""

_PROCESS_BYTES = 400 << 20
"""Memory of a process with its libraries, before it has read a file."""

_READING = 3
"""Memory of a file that is being read, over the size of the file: before its job says how much it needs."""

_PATIENCE = 5.0
"""Seconds in which a process that is told to end must end."""

Report = Callable[[str, str, int, int | None], None]
"""Function of the input's name, a step of its work, the finished amount and the total."""


def use_threads(threads: int) -> None:
    """Limit the computations of this process to a number of threads."""
    import torch

    torch.set_num_threads(threads)


def run_in_processes(
    job: Job,
    items: Sequence[Input],
    *,
    workers: int,
    threads: int,
    memory: int,
    report: Report = lambda name, text, done, total: None,
) -> Iterator[Outcome]:
    """Run a job on every input, and yield the outcome of each when it is there, in any order.

    The processes are ended when the iterator is closed.

    Args:
        job: the work.
        items: the inputs.
        workers: most processes at once.
        threads: threads of each process.
        memory: bytes that all of them may take together. One file may take more, if it is alone.
        report: told of the steps of the work.

    Raises:
        OutputError: a full disk.
    """
    pool = _Pool(job, items, threads, memory, report)
    try:
        yield from pool.run(min(workers, len(items)))
    finally:
        pool.end()


@dataclass
class _Worker:
    """Hold one process, seen from the process that started it.

    Attributes:
        process: the process.
        connection: to talk to it.
        item: the input it works on; None: none.
        reserved: bytes that are held for it.
        wants: bytes that it waits for; None: it does not wait.
        runs: whether it has got the memory that it asked for.
    """

    process: SpawnProcess
    connection: Connection
    item: Input | None = None
    reserved: int = 0
    wants: int | None = None
    runs: bool = False


@dataclass
class _Pool:
    """Share files among processes, and memory among files."""

    job: Job
    items: Sequence[Input]
    threads: int
    memory: int
    report: Report
    workers: list[_Worker] = field(default_factory=list)
    alone: deque[Input] = field(default_factory=deque)

    def run(self, count: int) -> Iterator[Outcome]:
        waiting = deque(self.items)
        for _ in range(count):
            self.workers.append(self._start())
        while waiting or self.alone or self._busy():
            self._give_work(waiting)
            self._give_memory()
            for ready in wait([worker.connection for worker in self._busy()]):
                worker = next(one for one in self.workers if one.connection is ready)
                outcome = self._hear(worker)
                if outcome is not None:
                    yield outcome

    def end(self) -> None:
        """End all processes."""
        for worker in self.workers:
            with contextlib.suppress(OSError):
                if worker.item is None:
                    worker.connection.send(None)
                else:
                    worker.process.terminate()
        for worker in self.workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self.workers.clear()

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")  # a fork of a process that has computed could not compute
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.job, self.threads), daemon=True)
        with _environment(self.threads):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.item is not None]

    def _give_work(self, waiting: deque[Input]) -> None:
        for worker in self.workers:
            if worker.item is not None:
                continue
            if waiting:
                need = _PROCESS_BYTES + _READING * waiting[0].size()
                if self._busy() and self._reserved() + need > self.memory:
                    return
                self._send(worker, waiting.popleft(), need)
            elif self.alone and not self._busy():
                self._send(worker, self.alone.popleft(), self.memory)
                return

    def _send(self, worker: _Worker, item: Input, need: int) -> None:
        worker.item, worker.reserved, worker.wants, worker.runs = item, need, None, False
        with contextlib.suppress(OSError):  # it has ended, which is noticed where its answer is read
            worker.connection.send(item)

    def _give_memory(self) -> None:
        """Let those go on that wait for memory, in the order in which they work, as far as it reaches."""
        for worker in self._busy():
            if worker.wants is None:
                continue
            need = _PROCESS_BYTES + worker.wants
            if any(one.runs for one in self._busy()) and self._reserved() - worker.reserved + need > self.memory:
                continue
            worker.reserved, worker.wants, worker.runs = need, None, True
            with contextlib.suppress(OSError):
                worker.connection.send("go on")

    def _reserved(self) -> int:
        return sum(worker.reserved for worker in self._busy())

    def _hear(self, worker: _Worker) -> Outcome | None:
        """Read one message of a process; returns an outcome if it has one."""
        item = worker.item
        assert item is not None
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            return self._died(worker, item)
        if kind == "memory":
            worker.wants = int(content)
        elif kind == "step":
            self.report(item.name, *content)
        elif kind == "full":
            raise OutputError(content, full=True)
        else:
            worker.item, worker.reserved, worker.runs = None, 0, False
            assert isinstance(content, Outcome)
            return content
        return None

    def _died(self, worker: _Worker, item: Input) -> Outcome | None:
        """Replace a process that has ended; its file is tried again if others may have taken the memory."""
        worker.process.join(_PATIENCE)
        code = worker.process.exitcode
        first_time = len(self._busy()) > 1 and worker.reserved < self.memory
        worker.connection.close()
        self.workers[self.workers.index(worker)] = self._start()
        if first_time:
            self.alone.append(item)
            return None
        how = f"by signal {-code}" if code is not None and code < 0 else f"with status {code}"
        return Outcome(
            item.name,
            f"the process that worked on it ended {how}: expected enough memory for this file alone, or a reader and a "
            "method that do not fail on it; try the file by itself, with fewer slices or another method",
        )


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set the variables by which libraries choose their threads, for a process that is started within the block.

    Such a process ignores Ctrl-C from its first moment on: the parent ends it.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    main = threading.current_thread() is threading.main_thread()
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, interrupt)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _work(connection: Connection, job: Job, threads: int) -> None:
    """Work on the files that are sent, in a process of its own, until there are no more or the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    use_threads(threads)
    aide = Aide(lambda num_bytes: _reserve(connection, num_bytes), _Steps(connection))
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        while (item := connection.recv()) is not None:
            try:
                outcome = perform(job, item, aide)
            except Exception as error:  # a full disk
                connection.send(("full", str(error)))
                return
            connection.send(("outcome", outcome))


def _reserve(connection: Connection, num_bytes: int) -> None:
    connection.send(("memory", num_bytes))
    connection.recv()


class _Steps:
    """Send the steps of the work, but not more often than a person can read them."""

    _every = 0.2

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last = 0.0

    def __call__(self, text: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._connection.send(("step", (text, done, total)))


def _end(number: int, frame: FrameType | None) -> Any:
    raise SystemExit(128 + number)  # half-written files are removed on the way out


def _end_with_parent() -> None:
    """End this process when its parent has been killed: nobody would take its result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
