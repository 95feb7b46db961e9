"""What HTTP costs over the bare Python call: time of one request, and processor time under many clients.

    python benchmarks/service/overhead.py [--method zero-filled] [--rounds 200] [--clients 32] [--json OUT.json]

One 320 x 320 single-coil slice as npy, on a kept-alive connection, answered as npy. In one run the bare call (`load`,
`undersample`, `reconstruct`, `np.save`) and the request alternate, so that whatever else the machine does meets both.
Then many clients send the same slice at once: the processor seconds of the server and its parser processes a slice,
beside those of the bare loop in one process. The service starts in a process of its own, with its defaults but for a
queue that holds all clients.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import mri_recon as mr

SIDE = 320


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="zero-filled", help="a registered method")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--slices", type=int, default=320, help="requests of all clients together")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slice.npy"
        rng = np.random.default_rng(0)
        shape = (1, 1, SIDE, SIDE)
        np.save(path, (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64))
        process, address = start_server(Path(folder) / "data")
        try:
            figures = measure(path, process.pid, address, given)
        finally:
            process.terminate()
            process.wait(timeout=60)
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(path: Path, pid: int, address: str, given: Any) -> dict[str, Any]:
    content = path.read_bytes()
    query = {"method": given.method, "acceleration": "4"}
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}

    def request(client: httpx.Client) -> bytes:
        answer = client.post("/v1/reconstructions", params=query, content=content, headers=headers)
        while answer.status_code == 429:
            time.sleep(float(answer.headers["retry-after"]))
            answer = client.post("/v1/reconstructions", params=query, content=content, headers=headers)
        answer.raise_for_status()
        return answer.content

    bare_times, http_times = [], []
    with httpx.Client(base_url=address, timeout=300, trust_env=False) as client:
        for round_ in range(given.rounds + 5):
            start = time.perf_counter()
            expected = bare(path, given.method)
            middle = time.perf_counter()
            got = request(client)
            end = time.perf_counter()
            if got != expected:
                raise SystemExit("the service's answer is not the bare call's")
            if round_ >= 5:
                bare_times.append(middle - start)
                http_times.append(end - middle)
    overhead = [1000 * (b - a) for a, b in zip(bare_times, http_times, strict=True)]

    start = time.process_time()
    for _ in range(given.slices // 4):
        bare(path, given.method)
    bare_cpu = (time.process_time() - start) / (given.slices // 4)
    before = cpu_seconds(pid)
    each = given.slices // given.clients

    def work() -> None:
        with httpx.Client(base_url=address, timeout=300, trust_env=False) as own:
            for _ in range(each):
                request(own)

    threads = [threading.Thread(target=work) for _ in range(given.clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    server_cpu = (cpu_seconds(pid) - before) / (each * given.clients)
    return {
        "method": given.method,
        "load_average": os.getloadavg(),
        "bare_ms": {"median": 1000 * statistics.median(bare_times), "p95": p95([1000 * t for t in bare_times])},
        "http_ms": {"median": 1000 * statistics.median(http_times), "p95": p95([1000 * t for t in http_times])},
        "overhead_ms": {"median": statistics.median(overhead), "p95": p95(overhead)},
        "clients": given.clients,
        "slices_per_second": each * given.clients / wall,
        "cpu_seconds_a_slice": {"bare": bare_cpu, "server": server_cpu, "ratio": server_cpu / bare_cpu},
    }


def bare(path: Path, method: str) -> bytes:
    scan = mr.load(path)
    mask = mr.random_mask(scan.width, acceleration=4, seed=0, support=scan.support)
    image = mr.reconstruct(mr.undersample(scan.kspace, mask), mask, method=method).image.numpy()
    buffer = io.BytesIO()
    np.save(buffer, image)
    return buffer.getvalue()


def p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]


def start_server(data: Path, **settings: str) -> tuple[subprocess.Popen[str], str]:
    """`mri-recon serve` in a process of its own, once it is ready."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "MRI_RECON_DATA_DIR": str(data), "MRI_RECON_QUEUE_SIZE": "64"}
    command = [sys.executable, "-m", "mri_recon.cli", "serve", "--port", "0"]
    log = (data.parent / "server.log").open("a")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env={**environment, **settings})
    assert process.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    if not found:
        raise SystemExit((data.parent / "server.log").read_text())
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{found.group()}/health/ready", trust_env=False).status_code == 200:
                return process, found.group()
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("the server does not become ready")


def cpu_seconds(pid: int) -> float:
    """Of a process and all it started, those that ended included."""
    ticks = os.sysconf("SC_CLK_TCK")
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(folder.name))
            used[int(folder.name)] = sum(int(field) for field in fields[11:15]) / ticks
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        total += used.get(one, 0.0)
        waiting += children.get(one, [])
    return total


if __name__ == "__main__":
    main()
