"""Send many scans to a streaming server, and follow its memory.

    python -m benchmarks.service.stream --scans 200 --clients 4 --seed 0
    python -m benchmarks.service.stream --speed
    python -m benchmarks.service.stream --damaged 500

Starts `mri-recon stream` in a process of its own. Each scan has slices of its own, is sent by the wire format of the
library ismrmrd and is compared with `reconstruct` on the same readouts; every tenth is cut off in the middle. Prints
the resident memory of the server and its parser processes after every tenth of the scans. Exits with status 1 where an
image differs, a whole scan is not answered, or a file or a job is left behind. With `--speed`, measures how fast
readouts are taken in, and the time from the last readout of a slice to its image. With `--damaged`, sends copies of a
session of each version that are cut short, have bits flipped or blocks moved, and counts how they end; then the server
must work, have logged no error, and have nothing left.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mri_recon as mr
from benchmarks.io.fuzz_readers import damaged
from tests.io.mrd_files import (
    messages_of,
    mrd,
    readouts_of,
    step,
    stream_header,
    write_session,
    write_stream,
    xml,
)
from tests.support.mrd_client import Client, converse, hold_session

SLICES, COILS, READOUT, PHASE = 4, 8, 128, 128
CUT = 10  # every tenth scan


def scan_of(seed: int) -> tuple[list[Any], str]:
    """Readouts of an undersampled scan, and its header."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, READOUT), np.linspace(-1, 1, PHASE), indexing="ij")
    image = np.zeros((SLICES, COILS, READOUT, PHASE), np.complex128)
    for number in range(SLICES):
        for coil in range(COILS):
            a, b = rng.uniform(-0.5, 0.5, 2)
            sensitivity = np.exp(-((y - np.cos(coil)) ** 2) - (x - np.sin(coil)) ** 2 + 1j * coil)
            image[number, coil] = (np.exp(-8 * ((y - a) ** 2 + (x - b) ** 2)) + (y**2 + x**2 < 0.5)) * sensitivity
    kspace = mr.fft2c(torch.from_numpy(image)).numpy() + 0.01 * rng.standard_normal(image.shape)
    columns = {*range(0, PHASE, 3), *range(PHASE // 2 - 8, PHASE // 2 + 8)}
    lines = [one for one in readouts_of(kspace.astype(np.complex64)) if one.idx["kspace_encode_step_1"] in columns]
    header = xml((READOUT, PHASE, 1), fov=(READOUT, PHASE, 5), limits=step("kspace_encoding_step_1", PHASE - 1, 64))
    last = max(columns)
    flagged = [
        type(one)(one.data, (1 << 7) * (one.idx["kspace_encode_step_1"] == last), one.idx, one.fields) for one in lines
    ]
    return flagged, header


def expected_of(path: Path, method: str) -> Any:
    """The images of `reconstruct` on the file of the same readouts."""
    scan = mr.load(path)
    assert scan.mask is not None
    return mr.reconstruct(mr.undersample(scan.kspace, scan.mask), scan.mask, method=method).image.numpy()


def memory_of(process: int) -> int:
    """Resident bytes of a process and its descendants, shared pages divided among them (PSS)."""
    total = 0
    for one in _tree(process):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text(encoding="ascii")
        except OSError:  # it has just ended
            continue
        total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024
    return total


def _tree(process: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children += map(int, task.read_text(encoding="ascii").split())
        except OSError:
            continue
    return [process, *(one for child in children for one in _tree(child))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4, help="scans that are sent at the same time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="zero-filled")
    parser.add_argument("--speed", action="store_true", help="measure speed in place of memory")
    parser.add_argument("--damaged", type=int, default=0, help="number of damaged sessions of each version")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        return (_damaged if chosen.damaged else _speed if chosen.speed else _run)(Path(name), chosen)


def _start(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a server with its files in a folder; return its process and port."""
    (folder / "uploads").mkdir()
    places = {"MRI_RECON_DATA_DIR": str(folder / "data"), "MRI_RECON_UPLOAD_DIR": str(folder / "uploads")}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **places}
    command = [sys.executable, "-m", "mri_recon.cli", "stream", "--port", "0"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    assert server.stdout is not None
    found = re.search(r"port (\d+)", server.stdout.readline())
    assert found is not None
    return server, int(found.group(1))


def _run(folder: Path, chosen: argparse.Namespace) -> int:
    server, port = _start(folder)
    scans = []
    for seed in range(chosen.seed, chosen.seed + 8):  # eight scans, again and again
        lines, header = scan_of(seed)
        expected = expected_of(mrd(folder / "a.h5", lines, header), chosen.method)
        scans.append((messages_of(lines), header, expected))
    largest = {"difference": 0.0}
    wrong = []

    def send(number: int) -> float:
        messages, header, expected = scans[number % len(scans)]
        if number % CUT == CUT - 1:
            with Client(port) as client:
                client.configure(text=chosen.method)
                client.header(header)
                client.send(messages[: len(messages) * 2 // 3])
                client.raw(messages[-1].to_bytes()[:1000])
            return 0.0
        start = time.monotonic()
        answer = hold_session(port, chosen.method, header, messages)
        if not answer.closed or len(answer.images) != len(expected):
            wrong.append(f"scan {number}: {answer.texts}")
            return 0.0
        difference = float(np.abs(answer.pixels - expected).max() / np.abs(expected).max())
        largest["difference"] = max(largest["difference"], difference)
        return time.monotonic() - start

    seconds: list[float] = []
    part = max(1, chosen.scans // 10)
    with ThreadPoolExecutor(chosen.clients) as pool:
        for first in range(0, chosen.scans, part):
            seconds += [one for one in pool.map(send, range(first, min(first + part, chosen.scans))) if one]
            print(f"{min(first + part, chosen.scans):5d} scans  {memory_of(server.pid) / 2**20:7.1f} MiB", flush=True)
    deadline = time.monotonic() + 60
    left = _left(folder)
    while left and time.monotonic() < deadline:
        time.sleep(0.2)
        left = _left(folder)
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=60)
    print(
        f"{len(seconds)} whole scans of {SLICES} x {COILS} x {READOUT} x {PHASE}: largest difference from reconstruct "
        f"{largest['difference']:.1e} of the largest magnitude, median {np.median(seconds):.2f} s a scan; "
        f"left behind: {left or 'nothing'}; status {server.returncode}"
    )
    for one in wrong:
        print(one)
    return int(bool(wrong or left or server.returncode or largest["difference"] > 1e-5))


def _speed(folder: Path, chosen: argparse.Namespace) -> int:
    server, port = _start(folder)
    for coils, samples, count in ((32, 512, 2000), (4, 64, 15000)):
        one = messages_of(readouts_of(np.ones((1, coils, samples, 1), np.complex64)))[0]
        header = xml((samples, count, 1)).encode()
        content = b"\3\0" + len(header).to_bytes(4, "little") + header + (b"\xf0\3" + one.to_bytes()) * count
        with socket.create_connection(("127.0.0.1", port)) as connection:
            start = time.monotonic()
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
            seconds = time.monotonic() - start
        print(
            f"readouts of {coils} x {samples}: {len(content) / seconds / 1e6:.0f} MB/s, {count / seconds:.0f} a second"
        )
    lines, header_text = scan_of(chosen.seed)
    slice_lines = messages_of([one for one in lines if one.idx["slice"] == 0])
    for method in ("zero-filled", "cg-sense", "unrolled"):
        seconds_of = []
        for _ in range(9):
            with Client(port) as client:
                client.configure(text=method)
                client.header(header_text)
                client.send(slice_lines[:-1])
                time.sleep(0.3)
                start = time.monotonic()
                client.send(slice_lines[-1:])
                while not client.answer.images:
                    time.sleep(0.001)
                seconds_of.append(time.monotonic() - start)
                client.finish()
        print(f"{method}: {np.median(seconds_of):.2f} s from the last readout of a slice to its image")
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=60)
    return int(bool(server.returncode))


def _damaged(folder: Path, chosen: argparse.Namespace) -> int:
    import mrd as mrd2

    server, port = _start(folder)
    kspace = np.ones((2, 2, 12, 10), np.complex64)
    lines, header = readouts_of(kspace), stream_header((12, 10, 1))
    header.user_parameters = mrd2.UserParametersType(
        user_parameter_string=[mrd2.UserParameterStringType(name="mri-recon", value="zero-filled")]
    )
    path = write_session(folder / "a", lines, xml((12, 10, 1), fov=(9, 9, 9)), waveforms=1, images=1, texts=1)
    first = b"\2\0\x0b\0\0\0zero-filled" + path.read_bytes()
    second = write_stream(folder / "b", lines, header, waveform=True).read_bytes()
    schema = mrd2.BinaryMrdWriter.schema.encode()  # most of the bytes; a damaged one is refused at once
    place = second.index(schema) + len(schema)
    for name, kept, whole in (("version 1", b"", first), ("version 2", second[:place], second[place:])):
        ends: Counter[str] = Counter()
        for content in damaged(whole, chosen.damaged, np.random.default_rng(chosen.seed)):
            ends[_end_of(converse(port, kept + content), second=name == "version 2")] += 1
        print(f"{name}: {dict(ends)}")
    lines, header_text = scan_of(chosen.seed)
    answer = hold_session(port, "zero-filled", header_text, messages_of(lines))
    deadline = time.monotonic() + 60
    while _left(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = _left(folder)
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=60)
    records = [json.loads(one) for one in (folder / "log").read_text().splitlines() if one.startswith("{")]
    errors = [one for one in records if one["level"] in ("error", "critical")]
    print(
        f"then {len(answer.images)} of {SLICES} images of a whole scan; errors in the log: {errors or 'none'}; "
        f"left behind: {left or 'nothing'}; status {server.returncode}"
    )
    return int(bool(len(answer.images) != SLICES or errors or left or server.returncode))


def _end_of(answer: bytes, *, second: bool) -> str:
    if not answer:
        return "no answer"
    if second:
        return "images and the end" if answer.endswith(b"\0") else "images and no end"
    return "an error and CLOSE" if b"error: " in answer else "CLOSE" if answer.endswith(b"\4\0") else "cut off"


def _left(folder: Path) -> list[str]:
    """Files of sessions and jobs, and jobs in the store that have not ended."""
    found = [str(one) for one in (folder / "data" / "jobs").iterdir()]
    found += [str(one) for one in folder.glob("uploads/mri-recon-stream-*/*") if one.name != "lock"]
    with sqlite3.connect(folder / "data" / "jobs.sqlite") as store:
        rows = store.execute("SELECT id FROM jobs WHERE status IN ('queued', 'running')").fetchall()
    return found + [str(row) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
