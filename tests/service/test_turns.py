"""Who parses next: clients in turn, one process for small files, and no more memory than there is."""

from __future__ import annotations

import gc
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mri_recon_service import clock
from mri_recon_service.buffers import Buffers
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.uploads.parser_pool import ParserPool, TooLarge
from mri_recon_service.uploads.turns import Turns
from tests.service.attacks.corpus import noise
from tests.service.attacks.hostile import COMMAND
from tests.support.patience import PATIENCE
from tests.support.service import until

MIB = 1 << 20


def test_bytes_are_bounded() -> None:
    buffers = Buffers(100)
    first, second = buffers.take(50), buffers.take(50)
    assert first
    assert second
    assert buffers.take(1) is None
    large = buffers.take(51)  # beyond the bound, once
    assert large
    assert buffers.take(1000) is None
    assert buffers.used == 151
    large.shrink(20)
    large.shrink(30)
    assert buffers.used == 120
    assert buffers.take(1) is None
    assert buffers.take(1000) is not None
    first.release()
    first.release()
    assert buffers.used == 1070


def test_waiting_for_bytes() -> None:
    buffers = Buffers(100)
    held = buffers.take(45)
    assert held
    assert buffers.wait(50, 0.0) is not None
    assert buffers.wait(50, 0.05) is None
    threading.Timer(0.05, held.release).start()
    assert buffers.wait(50, PATIENCE) is not None


class _Order:
    """Files that wait for turns, in the order in which they get them."""

    def __init__(self, turns: Turns[str], pool: ThreadPoolExecutor) -> None:
        self.got: list[str] = []
        self.go = threading.Semaphore(0)
        self._turns, self._pool = turns, pool

    def wait(self, name: str, client: str, *, memory: int = 1, large: bool = False) -> Any:
        """Have a file wait."""
        before = len(self._turns._waiting)

        def work() -> None:
            with self._turns.turn(client, memory=memory, large=large, seconds=PATIENCE) as (_, held):
                self.got.append(name)
                assert self.go.acquire(timeout=PATIENCE)
                held.release()

        found = self._pool.submit(work)
        until(lambda: len(self._turns._waiting) > before or name in self.got)
        return found


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as one:
        yield one


def test_clients_take_turns(threads: ThreadPoolExecutor) -> None:
    order = _Order(Turns(["p"], Buffers(10)), threads)
    done = [order.wait(f"greedy{number}", "greedy") for number in range(4)]
    done += [order.wait(f"other{number}", "other") for number in range(2)]
    order.go.release(9)
    for one in done:
        one.result(PATIENCE)
    assert order.got == ["greedy0", "other0", *order.got[2:]]
    assert order.got.index("other1") < 4


def test_large_files_leave_a_process_and_memory(threads: ThreadPoolExecutor) -> None:
    order = _Order(Turns(["p", "q"], Buffers(10)), threads)
    done = [order.wait(f"large{number}", "bad", memory=100, large=True) for number in range(3)]
    done.append(order.wait("small", "good"))
    until(lambda: order.got == ["large0", "small"])
    order.go.release(9)
    for one in done:
        one.result(PATIENCE)


def test_a_turn_that_does_not_come() -> None:
    turns = Turns(["p"], Buffers(10))
    with ExitStack() as stack:
        stack.enter_context(turns.turn("a", memory=1, large=False, seconds=1))
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            stack.enter_context(turns.turn("b", memory=1, large=False, seconds=0.1))
        assert time.monotonic() - began < PATIENCE
    with turns.turn("b", memory=8, large=False, seconds=0) as (process, _):
        assert process == "p"


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ParserPool, Buffers]]:
    """Two processes whose readers do what a file says, and little memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        settings = Settings(
            upload_dir=tmp_path_factory.mktemp("uploads"),
            parser_processes=2,
            max_decoded_bytes=512 * MIB,
            max_buffer_bytes=256 * MIB,
        )
        buffers = Buffers(settings.buffer_bytes)
        one = ParserPool(settings, buffers, command=COMMAND)
        one.start()
        yield one, buffers
        one.close()


def _zeros(path: Path, size: int) -> Path:
    """A small file of many zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("kspace.npy", "w") as member:
        shape = (size // (8 * 512 * 512), 1, 512, 512)
        np.lib.format.write_array_header_1_0(member, {"descr": "<c8", "fortran_order": False, "shape": shape})
        for _ in range(shape[0]):
            member.write(np.ones((512, 512), np.complex64).tobytes())
    return path


def test_a_scan_counts_until_it_is_freed(pool: tuple[ParserPool, Buffers], tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", noise(24, 20))
    parsed = pool[0].load(tmp_path / "scan.npy")
    assert pool[1].used == 24 * 20 * 8
    del parsed
    gc.collect()
    assert pool[1].used == 0
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(Problem):
        pool[0].load(tmp_path / "bad.npy")
    assert pool[1].used == 0


@pytest.mark.parametrize("size", [2 * MIB, 80 * MIB])
def test_a_file_that_needs_more_gets_it(pool: tuple[ParserPool, Buffers], tmp_path: Path, size: int) -> None:
    assert pool[0].load(_zeros(tmp_path / "scan.npz", size)).scan.kspace.nbytes == size


def test_more_than_is_of_use_is_refused_unread(pool: tuple[ParserPool, Buffers], tmp_path: Path) -> None:
    path = _zeros(tmp_path / "scan.npz", 80 * MIB)
    with pytest.raises(TooLarge) as refused:
        pool[0].load(path, most_bytes=70 * MIB)
    assert refused.value.size == 80 * MIB


def test_bombs_keep_no_honest_file_waiting(
    pool: tuple[ParserPool, Buffers], tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    """Large files, one after the other, and a small one in between."""
    bomb = _zeros(tmp_path / "bomb.npz", 400 * MIB)
    np.save(tmp_path / "scan.npy", noise(32, 32))
    ended: list[str] = []

    def load(name: str, path: Path) -> None:
        scan = pool[0].load(path).scan
        ended.append(name)
        del scan

    bombs = [threads.submit(load, "bomb", bomb) for _ in range(4)]
    until(lambda: pool[1].used > 400 * MIB)
    load("scan", tmp_path / "scan.npy")
    assert ended.count("bomb") < 3
    for one in bombs:
        one.result(PATIENCE)


def test_a_deadline_ends_the_wait_and_the_work(
    pool: tuple[ParserPool, Buffers], tmp_path: Path, threads: ThreadPoolExecutor
) -> None:
    (tmp_path / "hang.npy").write_text("DO hang")
    np.save(tmp_path / "scan.npy", noise(32, 32))
    began = time.monotonic()
    hanging = [threads.submit(pool[0].load, tmp_path / "hang.npy", deadline=clock.now() + 1.5) for _ in range(2)]
    until(lambda: not pool[0]._turns._idle)
    with pytest.raises(Problem) as late:
        pool[0].load(tmp_path / "scan.npy", deadline=clock.now() + 0.2)
    assert late.value.code == "timed-out"
    for one in hanging:
        with pytest.raises(Problem) as late:
            one.result(PATIENCE)
        assert late.value.code == "timed-out"
    assert time.monotonic() - began < PATIENCE
    assert pool[0].load(tmp_path / "scan.npy").scan.num_slices == 1
