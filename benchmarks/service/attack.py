"""What bad clients do to the service: each attack alone, and all of them at once beside honest clients.

    python -m benchmarks.service.attack connections|unread|downloads|bombs|batch|kills|mixed [--json OUT.json]
    python -m benchmarks.service.attack mixed [--seconds 300] [--clients 64]

The service starts in a process of its own. During every attack `/health/live` is asked twenty times a second by new
connections, and the resident memory of the service and its parser processes is read. `mixed` first asks for its health
while nothing else happens, since the times of a busy machine say little alone.

- connections: 300 connections that say nothing or send half a header, opened again as they are closed, at 256 file
  descriptors.
- unread: 40 uploads of a few kilobytes whose answers of 12 MiB nobody reads.
- downloads: 400 connections ask for the same result of 48 MiB, and nobody reads it. The kernel's memory of sockets is
  the whole machine's.
- bombs: four files of 1 MB that unpack to 1 GiB, and a scan of 32 x 32 with a deadline of 10 s between them.
- batch: eight jobs for one network that run together, within `MRI_RECON_MAX_MEMORY_BYTES`.
- kills: the process is killed 20 times while 80 jobs wait and run.
- mixed: many clients, every third hostile (idle, slow, bombs, unread answers); the others send small scans.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.service.overhead import start_server

SMALL = {"method": "zero-filled", "acceleration": "4"}
PERIOD = 0.05
IDLE_SECONDS = 10.0
MARKS = 10


def main() -> None:
    attacks = {
        "connections": connections,
        "unread": unread,
        "downloads": downloads,
        "bombs": bombs,
        "batch": batch,
        "kills": kills,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attack", choices=[*attacks, "mixed"])
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of `mixed`")
    parser.add_argument("--clients", type=int, default=64, help="number of clients of `mixed`")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = mixed(given.seconds, given.clients) if given.attack == "mixed" else attacks[given.attack]()
    figures |= {"attack": given.attack, "load_average": os.getloadavg()}
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


class Watch:
    """A service under attack: its health and its memory, followed in a thread."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address
        url = httpx.URL(address)
        self.peer = (url.host, url.port or 80)
        self.times: list[float] = []
        self.failed = 0
        self.before = self.peak = memory(process.pid)
        self.memory: list[tuple[int, int]] = []  # of the service, of its parsers
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def _follow(self) -> None:
        while not self._ends.wait(PERIOD):
            begun = time.perf_counter()
            try:
                answer = httpx.get(f"{self.address}/health/live", timeout=10, trust_env=False)
                self.failed += answer.status_code != 200
            except httpx.HTTPError:
                self.failed += 1
            self.times.append(1000 * (time.perf_counter() - begun))
            with suppress(OSError):  # it has ended
                own, both = resident(self.process.pid), memory(self.process.pid)
                self.peak = max(self.peak, both)
                self.memory.append((own, both - own))

    def figures(self) -> dict[str, Any]:
        self._ends.set()
        self._thread.join()
        return {
            "health_asked": len(self.times),
            "health_failed": self.failed,
            "health_ms": self.health(),
            "memory_mib": {"before": mib(self.before), "peak": mib(self.peak), "after": mib(memory(self.process.pid))},
            "memory_over_time_mib": [
                {"service": mib(own), "parsers": mib(parsers)}
                for own, parsers in self.memory[:: max(1, len(self.memory) // MARKS)]
            ],
        }

    def health(self) -> dict[str, float]:
        """The median and the 99th percentile of the answers so far, in ms."""
        ordered = sorted(self.times)
        return {"median": statistics.median(ordered), "p99": ordered[int(0.99 * (len(ordered) - 1))]}


@contextmanager
def service(**settings: str) -> Iterator[Watch]:
    with tempfile.TemporaryDirectory() as folder:
        process, address = start_server(Path(folder) / "data", **settings)
        try:
            yield Watch(process, address)
        finally:
            process.terminate()
            process.wait(timeout=60)


def connections() -> dict[str, Any]:
    # The service may open 256 files, this process more.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256 if hard == resource.RLIM_INFINITY else min(256, hard)))
    with service(MRI_RECON_LOG_FORMAT="text") as watch:
        until = time.monotonic() + 20
        sockets: list[socket.socket] = []
        opened = 0
        while time.monotonic() < until:
            with suppress(OSError):
                sockets.append(socket.create_connection(watch.peer, timeout=2))
                opened += 1
                if opened % 2:
                    sockets[-1].sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-")
            while len(sockets) > 200 or (sockets and closed(sockets[0])):
                sockets.pop(0).close()
        return watch.figures() | {"opened": opened}


def unread() -> dict[str, Any]:
    scan = zeros(16 << 20)
    with service(MRI_RECON_STALL_SECONDS="10", MRI_RECON_QUEUE_SIZE="64") as watch:
        sockets = []
        for _ in range(40):
            one = slow_reader(watch.peer)
            one.sendall(post(scan, "accept: application/x-npy"))
            sockets.append(one)
        ended: set[socket.socket] = set()
        until = time.monotonic() + 200
        while len(ended) < len(sockets) and time.monotonic() < until:
            ended |= {one for one in sockets if reset(one)}
            time.sleep(0.5)
        return watch.figures() | {"upload_bytes": len(scan), "ended_by_the_service": len(ended)}


def downloads() -> dict[str, Any]:
    scan = npy(2048)
    with (
        service(MRI_RECON_STALL_SECONDS="10") as watch,
        httpx.Client(base_url=watch.address, trust_env=False) as client,
    ):
        headers = {"Prefer": "wait=100", "Idempotency-Key": "a", "Content-Type": "application/x-npy"}
        job = client.post("/v1/reconstructions", params=SMALL, content=scan, headers=headers, timeout=120)
        place = client.get("/v1/jobs").json()["jobs"][0]["links"]["self"]
        request = f"GET {place}/result HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-npz\r\n\r\n".encode()
        time.sleep(2.0)
        watch.peak = watch.before = memory(watch.process.pid)
        before = most = kernel_bytes()
        sockets = [slow_reader(watch.peer) for _ in range(400)]
        for one in sockets:
            one.sendall(request)
        ended: set[socket.socket] = set()
        until = time.monotonic() + 60
        while len(ended) < len(sockets) and time.monotonic() < until:
            most = max(most, kernel_bytes())
            ended |= {one for one in sockets if reset(one)}
            time.sleep(0.1)
        return watch.figures() | {
            "answer_bytes": len(job.content),
            "kernel_mib": {"before": mib(before), "peak": mib(most)},
            "ended_by_the_service": len(ended),
        }


def bombs() -> dict[str, Any]:
    bomb, scan = zeros(1 << 30), npy(32)
    with service() as watch:
        senders = [threading.Thread(target=send, args=(watch.address, bomb, "npz")) for _ in range(4)]
        for one in senders:
            one.start()
        time.sleep(1.0)
        begun = time.perf_counter()
        status = send(watch.address, scan, "npy", deadline_seconds="10")
        seconds = time.perf_counter() - begun
        for one in senders:
            one.join()
        return watch.figures() | {"bomb_bytes": len(bomb), "honest": {"status": status, "seconds": seconds}}


def batch() -> dict[str, Any]:
    scan = npy(256)
    found: dict[str, Any] = {}
    for limit in (0, 262 << 20):
        with service(**({"MRI_RECON_MAX_MEMORY_BYTES": str(limit)} if limit else {})) as watch:
            headers = {"Prefer": "respond-async", "Content-Type": "application/x-npy"}
            query = {"method": "unet", "acceleration": "4"}
            with httpx.Client(base_url=watch.address, trust_env=False, timeout=300) as client:
                client.post("/v1/reconstructions", params=query, content=scan, headers={**headers, "Prefer": "wait=60"})
                watch.peak = watch.before = memory(watch.process.pid)
                jobs = [
                    client.post("/v1/reconstructions", params=query, content=scan, headers=headers).json()["links"]
                    for _ in range(8)
                ]
                while any(client.get(one["self"]).json()["status"] in ("queued", "running") for one in jobs):
                    time.sleep(PERIOD)
            text = httpx.get(f"{watch.address}/metrics", trust_env=False).text
            sizes = [line.split()[-1] for line in text.splitlines() if line.startswith("mri_recon_batch_size_count")]
            figures = watch.figures() | {"runs": sizes}
            found[f"limit_{mib(limit)}_mib" if limit else "no_limit"] = figures
    return found


def kills() -> dict[str, Any]:
    rng = random.Random(0)
    query = {"method": "cs-wavelet", "acceleration": "3", "gap_tol": "0", "max_iters": "60"}
    headers = {"Prefer": "respond-async", "Content-Type": "application/x-npy"}
    with tempfile.TemporaryDirectory() as folder:
        places: list[str] = []
        for round_ in range(21):
            process, address = start_server(Path(folder) / "data")
            with httpx.Client(base_url=address, trust_env=False, timeout=300) as client:
                if round_ < 20:
                    for _ in range(4):
                        answer = client.post("/v1/reconstructions", params=query, content=npy(96), headers=headers)
                        places.append(answer.headers["location"])
                    time.sleep(rng.uniform(0.0, 2.0))
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    continue
                while any(client.get(one).json()["status"] in ("queued", "running") for one in places):
                    time.sleep(0.2)
                ended = Counter(client.get(one).json()["status"] for one in places)
                process.terminate()
                process.wait(timeout=60)
    return {"kills": 20, "jobs": len(places), "ended": dict(ended)}


def mixed(seconds: float, clients: int) -> dict[str, Any]:
    large, bomb, scan = zeros(16 << 20), zeros(512 << 20), npy(32)
    with service(MRI_RECON_STALL_SECONDS="10", MRI_RECON_QUEUE_SIZE="64") as watch:
        time.sleep(IDLE_SECONDS)
        idle_health, watch.times = watch.health(), []
        until = time.monotonic() + seconds
        counts: Counter[str] = Counter()

        def idle() -> None:
            with socket.create_connection(watch.peer, timeout=5) as one:
                one.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-")
                wait(one, 3.0)

        def slow() -> None:
            with socket.create_connection(watch.peer, timeout=5) as one:
                one.sendall(post(scan)[:-4000])
                wait(one, 5.0)

        def bad_file() -> None:
            send(watch.address, bomb, "npz", deadline_seconds="5")

        def unread_answer() -> None:
            with slow_reader(watch.peer) as one:
                one.sendall(post(large, "accept: application/x-npy"))
                wait(one, 8.0)

        def honest() -> None:
            status = send(watch.address, scan, "npy")
            counts["busy" if status == 429 else "answered" if status == 200 else f"lost_{status}"] += 1
            if status == 429:
                time.sleep(0.2)

        hostile = [idle, slow, bad_file, unread_answer]
        threads = [
            threading.Thread(target=repeat, args=(hostile[number // 3 % 4] if number % 3 == 0 else honest, until))
            for number in range(clients)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        return watch.figures() | {
            "seconds": seconds,
            "clients": clients,
            "idle_health_ms": idle_health,
            "honest": dict(counts),
        }


def repeat(act: Callable[[], None], until: float) -> None:
    while time.monotonic() < until:
        with suppress(OSError):
            act()


def wait(one: socket.socket, seconds: float) -> None:
    """Keep a connection open and read nothing, until the service resets it or the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not reset(one):
        time.sleep(0.2)


def reset(one: socket.socket) -> bool:
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def closed(one: socket.socket) -> bool:
    one.setblocking(False)
    try:
        while one.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def slow_reader(peer: tuple[str, int]) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.settimeout(10)
    one.connect(peer)
    return one


def send(address: str, content: bytes, suffix: str, **fields: str) -> int:
    """Send a scan, and return the status of the answer; 0 for none."""
    headers = {"Content-Type": f"application/x-{suffix}"}
    try:
        return httpx.post(
            f"{address}/v1/reconstructions",
            params=SMALL | fields,
            content=content,
            headers=headers,
            trust_env=False,
            timeout=300,
        ).status_code
    except httpx.HTTPError:
        return 0


def post(content: bytes, *headers: str) -> bytes:
    """A raw request that sends a scan."""
    suffix = "npz" if content.startswith(b"PK") else "npy"
    lines = ["POST /v1/reconstructions?method=zero-filled&acceleration=4 HTTP/1.1", "Host: localhost", *headers]
    lines += [f"Content-Type: application/x-{suffix}", f"Content-Length: {len(content)}", "", ""]
    return "\r\n".join(lines).encode() + content


def npy(side: int) -> bytes:
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    np.save(buffer, (rng.standard_normal((side, side)) + 1j * rng.standard_normal((side, side))).astype(np.complex64))
    return buffer.getvalue()


def zeros(size: int) -> bytes:
    """A small npz file of a large scan."""
    buffer = io.BytesIO()
    side = 512
    count = size // (8 * side * side)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("kspace.npy", "w") as member:
        header = {"descr": "<c8", "fortran_order": False, "shape": (count, 1, side, side)}
        np.lib.format.write_array_header_1_0(member, header)
        block = np.ones((side, side), np.complex64).tobytes()
        for _ in range(count):
            member.write(block)
    return buffer.getvalue()


def memory(pid: int) -> int:
    """Resident bytes of a process and its children, of which shared pages count once."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        with suppress(OSError, StopIteration, ValueError):
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
            total += resident(one)
    return total


def resident(pid: int) -> int:
    """Resident bytes of one process, with its share of what it shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def kernel_bytes() -> int:
    """Memory that the kernel holds for TCP, of all connections of this machine."""
    lines = Path("/proc/net/sockstat").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("TCP:")).split()[-1]) * resource.getpagesize()


def mib(size: int) -> int:
    return round(size / (1 << 20))


if __name__ == "__main__":
    main()
