"""Many clients at once, and a server that is killed again and again: nothing lost, nothing wrong, memory flat.

    python -m benchmarks.service.load [--seconds 120] [--clients 64] [--kills 20] [--json OUT.json]

First, clients send scans of several sizes to several methods for some time, at once and as jobs, and compare every
answer with what Python makes of the same scan (1e-5 of the largest magnitude, for answers may be batched). The resident
memory of the server is read every second. Then jobs are sent under idempotency keys while the server is killed
(`kill -9`) and started again on the same data folder; at the end every accepted job must have one result, equal to
Python's, or a stated error, and one end among its events.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import mri_recon as mr
from benchmarks.service.overhead import start_server

SHAPES = ((1, 1, 64, 64), (1, 4, 96, 80), (2, 1, 128, 96))
METHODS: dict[str, dict[str, Any]] = {
    "zero-filled": {},
    "cg-sense": {"max_iters": 5},
    "cs-wavelet": {"max_iters": 10},
    "unet": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    cases = [(kspace(shape, seed), method) for seed, shape in enumerate(SHAPES) for method in METHODS]
    expected = [python(scan, method) for scan, method in cases]
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "load": load(Path(folder) / "a", cases, expected, given),
            "kills": kills(Path(folder) / "b", cases, expected, given.kills),
        }
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def load(data: Path, cases: Any, expected: Any, given: Any) -> dict[str, Any]:
    data.parent.mkdir(exist_ok=True)
    process, address = start_server(data)
    seen: Counter[str] = Counter()
    memory: list[int] = []
    end = time.monotonic() + given.seconds
    lock = threading.Lock()

    def work(number: int) -> None:
        chooser = random.Random(number)
        with httpx.Client(base_url=address, timeout=600, trust_env=False) as client:
            while time.monotonic() < end:
                which = chooser.randrange(len(cases))
                as_job = chooser.random() < 0.3
                what = outcome(client, *cases[which], expected[which], as_job=as_job)
                with lock:
                    seen[what] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(given.clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(resident(process.pid))
        time.sleep(1)
    process.terminate()
    process.wait(timeout=60)
    third = max(1, len(memory) // 3)
    return {
        "seconds": given.seconds,
        "clients": given.clients,
        "answers": dict(seen),
        "resident_mib": {
            "after_a_third": max(memory[:third]) >> 20,
            "after_two_thirds": max(memory[third : 2 * third] or memory) >> 20,
            "end": max(memory[2 * third :] or memory) >> 20,
        },
    }


def outcome(client: httpx.Client, scan: Any, method: str, image: Any, *, as_job: bool) -> str:
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    headers |= {"Prefer": "respond-async"} if as_job else {}
    answer = client.post("/v1/reconstructions", params=query(method), content=npy(scan), headers=headers)
    if answer.status_code == 429:
        time.sleep(min(float(answer.headers["retry-after"]), 5))
        return "refused: 429"
    if answer.status_code == 202:
        here = answer.headers["location"]
        while (status := client.get(here).json()["status"]) in ("queued", "running"):
            time.sleep(0.2)
        if status != "succeeded":
            return f"job {status}"
        answer = client.get(f"{here}/result", headers=headers)
        client.delete(here)
    if answer.status_code != 200:
        return f"status {answer.status_code}"
    return ("job: " if as_job else "direct: ") + ("right" if right(answer.content, image) else "WRONG")


def kills(data: Path, cases: Any, expected: Any, number: int) -> dict[str, Any]:
    data.parent.mkdir(exist_ok=True)
    accepted: dict[str, int] = {}
    chooser = random.Random(0)
    for round_ in range(number):
        process, address = start_server(data)
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
            for one in range(4):
                which = chooser.randrange(len(cases))
                scan, method = cases[which]
                headers = {"Content-Type": "application/x-npy", "Prefer": "respond-async"}
                headers["Idempotency-Key"] = f"{round_}-{one}"
                answer = client.post("/v1/reconstructions", params=query(method), content=npy(scan), headers=headers)
                answer.raise_for_status()
                accepted[answer.headers["location"]] = which
        time.sleep(chooser.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    process, address = start_server(data)
    seen: Counter[str] = Counter()
    with httpx.Client(base_url=address, timeout=300, trust_env=False) as client:
        for here, which in accepted.items():
            while (document := client.get(here).json())["status"] in ("queued", "running"):
                time.sleep(0.1)
            ends = client.get(f"{here}/events").text.count("event: end")
            what = document["status"] if document["problem"] is None else document["problem"]["code"]
            if document["status"] == "succeeded":
                result = client.get(f"{here}/result", headers={"Accept": "application/x-npy"}).content
                what += ", right" if right(result, expected[which]) else ", WRONG"
            seen[f"{what}, {ends} end"] += 1
    process.terminate()
    process.wait(timeout=60)
    return {"kills": number, "accepted": len(accepted), "jobs": dict(seen)}


def query(method: str) -> dict[str, str]:
    return {"method": method, "acceleration": "3", **{name: str(value) for name, value in METHODS[method].items()}}


def kspace(shape: tuple[int, ...], seed: int) -> Any:
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, shape[2]), np.linspace(-1, 1, shape[3]), indexing="ij")
    image = np.exp(-4 * (x**2 + y**2)) * np.exp(1j * np.arange(shape[1])[:, None, None])[None]
    image = np.broadcast_to(image, shape)
    axes = (-2, -1)
    full = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=axes), norm="ortho"), axes=axes)
    return (full + 0.01 * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))).astype(np.complex64)


def python(scan: Any, method: str) -> Any:
    mask = mr.random_mask(scan.shape[-1], 3, seed=0)
    return mr.reconstruct(mr.undersample(scan, mask), mask, method=method, **METHODS[method]).image.numpy()


def right(content: bytes, image: Any) -> bool:
    got = np.load(io.BytesIO(content))
    return got.shape == image.shape and bool(np.abs(got - image).max() <= 1e-5 * np.abs(image).max())


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
