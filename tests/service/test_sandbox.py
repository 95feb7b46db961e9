"""The processes that read uploads: what they give back, what they cannot do, and what happens when one goes wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.io.fuzz_readers import FORMATS
from mri_recon.io import load, load_mask
from mri_recon.io.masks import choose_mask
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.uploads import parser_process
from mri_recon_service.uploads.parser_pool import ParserPool
from tests.service.attacks.corpus import Canary, noise, sound_files
from tests.service.attacks.hostile import COMMAND
from tests.support.patience import PATIENCE

LIMITS: dict[str, Any] = {
    "max_decoded_bytes": 1 << 22,
    "parser_processes": 1,
    "parser_timeout_seconds": 4.0,  # a busy machine needs more than the file does
    "parser_memory_bytes": 1 << 28,
    "parser_files": 5,
}

READ = [name for name in FORMATS if name.startswith(("fastmri", "np", "mat", "mrd", "twix", "pfile"))]
"""Formats of uploads."""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ParserPool]:
    """A pool whose readers do what a file says: `DO verb`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        one = ParserPool(Settings(upload_dir=tmp_path_factory.mktemp("uploads"), **LIMITS), command=COMMAND)
        one.start()
        yield one
        one.close()


@pytest.fixture
def order(pool: ParserPool, tmp_path: Path) -> Callable[..., Problem]:
    """Have a file do something; what came of it."""

    def run(*words: str) -> Problem:
        path = tmp_path / "upload.npy"
        path.write_text(" ".join(("DO", *words)))
        with pytest.raises(Problem) as caught:
            pool.load(path)
        assert caught.value.code == "invalid-file"
        return caught.value

    return run


@pytest.fixture
def serves(pool: ParserPool, tmp_path: Path) -> Iterator[None]:
    """After the test, a sound file is read."""
    yield
    np.save(tmp_path / "sound.npy", noise(24, 20))
    torch.testing.assert_close(pool.load(tmp_path / "sound.npy").scan.kspace[0, 0], torch.from_numpy(noise(24, 20)))


def told(problem: Problem) -> Any:
    return json.loads(problem.detail)


def test_a_scan_is_the_same_as_in_this_process(pool: ParserPool, tmp_path: Path) -> None:
    for path in sound_files(tmp_path):
        here, there = load(path), pool.load(path).scan
        assert torch.equal(here.kspace, there.kspace)
        assert (here.target is None) == (there.target is None)
        if here.target is not None and there.target is not None:
            assert torch.equal(here.target, there.target)
        assert here.mask == there.mask
        np.testing.assert_array_equal(here.support, there.support)
        assert (here.target_source, here.recon_size, here.meta) == (
            there.target_source,
            there.recon_size,
            there.meta,
        )


def test_a_mask_file_is_the_same_as_in_this_process(pool: ParserPool, tmp_path: Path) -> None:
    np.save(tmp_path / "upload.npy", noise(24, 20))
    for name, mask in (
        ("columns.npy", np.arange(20) % 2),
        ("pattern.npy", np.random.default_rng(0).random((24, 20)) < 0.5),
        ("as large as the k-space.npy", np.broadcast_to(np.arange(20) % 2, (3, 4, 24, 20))),
    ):
        np.save(tmp_path / name, mask)
        parsed = pool.load(tmp_path / "upload.npy", mask_file=tmp_path / name)
        chosen = choose_mask(parsed.scan, mask_file=name, mask_array=parsed.mask)
        assert chosen == load_mask(tmp_path / name)
    assert pool.load(tmp_path / "upload.npy").mask is None


def test_axes_and_variable(pool: ParserPool, tmp_path: Path) -> None:
    np.savez(tmp_path / "upload.npz", a=noise(24, 20), b=noise(7, 24, 20))
    scan = pool.load(tmp_path / "upload.npz", axes="coil readout phase", variable="b").scan
    assert scan.kspace.shape == (1, 7, 24, 20)
    with pytest.raises(Problem, match="variable: expected at most 1000 characters, got 2000"):
        pool.load(tmp_path / "upload.npz", variable="b" * 2000)


def test_fresh_workers_come_by_themselves(pool: ParserPool, tmp_path: Path) -> None:
    np.save(tmp_path / "upload.npy", noise(24, 20))
    template = pool.pids
    workers = set()
    for _ in range(2 * LIMITS["parser_files"]):
        pool.load(tmp_path / "upload.npy")
        workers |= _children(template[0])
    assert len(workers) >= 2
    assert pool.pids == template


@pytest.mark.slow  # two processes of its own
def test_several_threads(tmp_path: Path) -> None:
    pool = ParserPool(Settings(upload_dir=tmp_path, **LIMITS | {"parser_processes": 2, "parser_timeout_seconds": 60}))
    pool.start()
    failed: list[BaseException] = []

    def read(seed: int) -> None:
        try:
            kspace = noise(24, 20 + seed, seed=seed)
            np.save(tmp_path / f"{seed}.npy", kspace)
            for _ in range(5):
                assert torch.equal(pool.load(tmp_path / f"{seed}.npy").scan.kspace[0, 0], torch.from_numpy(kspace))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.close()
    assert not failed
    assert not list(tmp_path.glob("mri-recon-parser-*"))
    with pytest.raises(Problem, match="the service is stopping"):
        pool.load(tmp_path / "0.npy")


# ---------------------------------------------------------------------------------------------- what it cannot do


def test_nothing_outside_is_reached(order: Callable[..., Problem], pool: ParserPool, serves: None) -> None:
    if "calls" in pool.restrictions.lacks:
        pytest.skip("the kernel has no seccomp for this machine")
    assert pool.restrictions.network in ("namespace", "seccomp")
    assert told(order("reach")) == []


def test_calls_beyond_the_list_never_reach_the_kernel(
    order: Callable[..., Problem], pool: ParserPool, tmp_path: Path, serves: None
) -> None:
    """Each is answered as if it were not there, whatever it asks for; the files and limits are as they were."""
    if "calls" in pool.restrictions.lacks:
        pytest.skip("the kernel has no seccomp for this machine")
    keys = tmp_path / "keys.json"
    keys.write_text("{}")
    keys.chmod(0o600)
    before = resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE)
    assert told(order("call", str(keys), str(os.getpid()))) == []
    assert keys.stat().st_mode & 0o777 == 0o600
    assert resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE) == before


@pytest.mark.parametrize("name", READ)
def test_every_format_is_read_inside(name: str, pool: ParserPool, tmp_path: Path) -> None:
    path = FORMATS[name].make(tmp_path)
    here, there = load(path), pool.load(path).scan
    assert torch.equal(here.kspace, there.kspace)
    assert here.mask == there.mask
    assert here.meta == there.meta


def test_the_kernel_agrees(pool: ParserPool) -> None:
    assert pool.restrictions
    (worker,) = _children(pool.pids[0])
    status = Path(f"/proc/{worker}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    if pool.restrictions.seccomp:
        assert "Seccomp:\t2" in status
    assert "CapEff:\t0000000000000000" in status
    assert "CapPrm:\t0000000000000000" in status
    if pool.restrictions.network == "namespace" and os.getuid() == 0:
        assert Path(f"/proc/{worker}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def test_other_files_are_out_of_reach(
    order: Callable[..., Problem], pool: ParserPool, tmp_path: Path, serves: None
) -> None:
    if not pool.restrictions.landlock:
        pytest.skip("the kernel has no landlock")
    canary = Canary(tmp_path / "machine")
    assert not any(told(order("open", str(canary.note))).values())
    assert canary.note.read_text() == canary.text


def test_limits_hold(order: Callable[..., Problem], serves: None) -> None:
    limits = told(order("limits"))
    assert limits["RLIMIT_FSIZE"] == 4 * LIMITS["max_decoded_bytes"] + 65536
    assert (limits["RLIMIT_NOFILE"], limits["RLIMIT_CORE"]) == (64, 0)
    assert LIMITS["parser_memory_bytes"] < limits["RLIMIT_AS"] < LIMITS["parser_memory_bytes"] + (1 << 32)
    assert 1 <= limits["RLIMIT_CPU"] < 60
    assert told(order("write_much")) is False


# ---------------------------------------------------------------------------------------------- what goes wrong


def test_memory_is_bounded(order: Callable[..., Problem], pool: ParserPool, serves: None) -> None:
    before = pool.pids
    assert "takes more memory to read than a file may" in order("eat").detail
    assert pool.pids == before


@pytest.mark.parametrize("verb", ["hang", "spin"])
def test_a_reader_that_does_not_end(order: Callable[..., Problem], serves: None, verb: str) -> None:
    start = time.monotonic()
    assert "upload.npy was not read within 4 s" in order(verb).detail
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("verb", ["crash", "leave"])
def test_a_reader_that_dies(order: Callable[..., Problem], pool: ParserPool, serves: None, verb: str) -> None:
    pool.restrictions  # noqa: B018  the process before this test may just have been ended
    before = pool.pids
    assert "the reader failed on it" in order(verb).detail
    assert pool.pids == before


def test_an_answer_to_a_later_request_is_forgotten(
    order: Callable[..., Problem], pool: ParserPool, serves: None
) -> None:
    for number in range(1, 4):
        order("forge", str(number))


@pytest.mark.parametrize(
    "words", [("babble",), *(("lie", k) for k in ("deep", "number", "error", "text", "fields", "file"))]
)
def test_answers_that_are_none(
    order: Callable[..., Problem], caplog: pytest.LogCaptureFixture, serves: None, words: tuple[str, ...]
) -> None:
    detail = order(*words).detail
    assert "the reader failed on it" in detail or "not read within 4 s" in detail
    assert "DO " not in caplog.text


def test_a_worker_that_refuses_a_file_and_stays_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setattr(parser_process, "_ENDING_SECONDS", 0.2)
    # A start has as long as it wants: the next request must not wait for the end of the worker as for a start.
    monkeypatch.setattr(parser_process, "_START_SECONDS", 1e5)
    pool = ParserPool(Settings(upload_dir=tmp_path, **LIMITS), command=COMMAND)
    pool.start()
    try:
        (tmp_path / "upload.npy").write_text("DO refuse 1")  # a pool counts its requests from 1
        with pytest.raises(Problem, match="refused"):
            pool.load(tmp_path / "upload.npy")
        np.save(tmp_path / "sound.npy", noise(24, 20))
        assert pool.load(tmp_path / "sound.npy").scan.num_slices == 1
    finally:
        pool.close()


def test_a_worker_that_is_ended_while_it_waits(pool: ParserPool, tmp_path: Path) -> None:
    np.save(tmp_path / "upload.npy", noise(24, 20))
    pool.load(tmp_path / "upload.npy")
    assert pool.restrictions  # a worker waits: the one before may have read its last file
    for victim_of in (lambda pid: max(_children(pid)), lambda pid: pid):
        # The process may be another one by now: where a worker's loss shows only in mid-request, both are replaced.
        victim = victim_of(pool.pids[0])
        os.kill(victim, 9)
        deadline = time.monotonic() + PATIENCE
        while _running(victim) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pool.load(tmp_path / "upload.npy").scan.num_slices == 1


def test_a_process_that_does_not_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "upload.npy", noise(24, 20))
    pool = ParserPool(Settings(upload_dir=tmp_path, **LIMITS), command=("/bin/false",))
    pool.start()
    with pytest.raises(Problem, match="uploads cannot be read now") as caught:
        pool.load(tmp_path / "upload.npy")
    assert caught.value.code == "internal-error"
    assert "does not start" in caplog.text
    pool.close()
    assert [path.name for path in tmp_path.iterdir()] == ["upload.npy"]


def test_folders_of_a_killed_service_are_removed(tmp_path: Path) -> None:
    abandoned, held = tmp_path / "mri-recon-parser-old", tmp_path / "mri-recon-parser-other"
    for folder in (abandoned, held):
        (folder / "in").mkdir(parents=True)
        (folder / "in" / "upload.npy").touch()
    (abandoned / "lock").touch()  # nobody holds it; the other has none, and may just be in the making
    pool = ParserPool(Settings(upload_dir=tmp_path, **LIMITS), command=("/bin/false",))
    pool.start()
    pool.close()
    assert [path.name for path in tmp_path.iterdir()] == [held.name]
    shutil.rmtree(held)


def test_uploads_on_another_file_system(pool: ParserPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    np.save(tmp_path / "upload.npy", noise(24, 20))
    assert pool.load(tmp_path / "upload.npy").scan.num_slices == 1
    monkeypatch.setattr(shutil, "copyfile", refuse)
    with pytest.raises(Problem) as caught:
        pool.load(tmp_path / "upload.npy")
    assert caught.value.code == "storage-full"


def test_the_environment_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the service was started with, its secrets too, does not reach the process."""
    monkeypatch.setenv("MRI_RECON_SECRET", "x")
    command = ("/bin/sh", "-c", f"env > {tmp_path}/seen; mv {tmp_path}/seen {tmp_path}/environment; sleep 60")
    pool = ParserPool(Settings(upload_dir=tmp_path, **LIMITS), command=command)
    pool.start()
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "environment").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    pool.close()
    found = (tmp_path / "environment").read_text()
    assert "OMP_NUM_THREADS=1" in found
    assert "MRI_RECON" not in found


_ECHO = """
import sys
import numpy as np
for line in sys.stdin:
    source, target = line.split()
    np.save(target, np.load(source))
    print("done", flush=True)
"""


@pytest.mark.soak  # measures
def test_the_way_there_and_back_is_short(tmp_path: Path) -> None:
    """One slice of 320 x 320 takes at most three times as long as in a bare process that loads and saves it."""
    source, target = tmp_path / "upload.npy", tmp_path / "copy.npy"
    np.save(source, noise(320, 320))
    pool = ParserPool(Settings(upload_dir=tmp_path, parser_processes=1))
    bare = subprocess.Popen([sys.executable, "-c", _ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ours, theirs = [], []
    with bare, closing(pool):
        assert bare.stdin
        assert bare.stdout
        pool.start()
        for _ in range(300):  # in turns: what slows the machine down slows both
            start = time.perf_counter()
            pool.load(source)
            middle = time.perf_counter()
            print(source, target, file=bare.stdin, flush=True)
            assert bare.stdout.readline() == "done\n"
            np.load(target)
            ours.append(middle - start)
            theirs.append(time.perf_counter() - middle)
    assert np.percentile(ours, 10) < 3 * np.percentile(theirs, 10)


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_masks_as_large_as_the_kspace(pool: ParserPool, tmp_path: Path, serves: None) -> None:
    """One for all slices and coils is taken, beside the k-space too; one that differs is refused with the reason."""
    mask = np.broadcast_to(np.arange(20) % 2, (3, 4, 24, 20)).copy()
    np.savez(tmp_path / "upload.npz", kspace=noise(3, 4, 24, 20) * mask, mask=mask)
    scan = pool.load(tmp_path / "upload.npz").scan
    assert scan.mask == load(tmp_path / "upload.npz").mask
    mask[0, 0, 0, 0] = 1
    np.savez(tmp_path / "upload.npz", kspace=noise(3, 4, 24, 20) * mask, mask=mask)
    with pytest.raises(Problem, match="or differs between slices or coils"):
        pool.load(tmp_path / "upload.npz")
