"""What jobs cost a client over direct answers: the same work in turns, by `reconstruct` of the client and by one POST.

    python -m benchmarks.service.client [--method zero-filled] [--rounds 20] [--json OUT.json]

The embedded sample, 4 slices of 8 coils. A direct answer is the npz of one request on a kept-alive connection; the
client sends a job, follows its events and fetches the npz. The service runs in a process of its own with its defaults.
Medians and quartiles in milliseconds, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from benchmarks.service.overhead import start_server
from mri_recon.embedded_sample import sample_path
from mri_recon_service.client import Client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="zero-filled")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, address = start_server(Path(folder) / "data")
        try:
            figures = measure(address, given.method, given.rounds)
        finally:
            process.terminate()
            process.wait()
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(address: str, method: str, rounds: int) -> dict[str, object]:
    """Take turns; the first round of both is not counted."""
    scan = sample_path()
    direct: list[float] = []
    job: list[float] = []
    with httpx.Client(base_url=address, timeout=600, trust_env=False) as http, Client(address) as service:

        def post(seed: int) -> None:
            with scan.open("rb") as file:
                answer = http.post(
                    "/v1/reconstructions",
                    files={"file": ("scan.h5", file)},
                    data={"method": method, "acceleration": "4", "seed": str(seed)},
                    headers={"Accept": "application/x-npz"},
                )
            answer.raise_for_status()

        def reconstruct(seed: int) -> None:
            service.reconstruct(scan, method=method, acceleration=4, seed=seed)

        for seed in range(rounds + 1):
            direct.append(timed(post, seed))
            job.append(timed(reconstruct, seed))
    ratios = [two / one for one, two in zip(direct[1:], job[1:], strict=True)]
    return {
        "method": method,
        "rounds": rounds,
        "direct_ms": quartiles(direct[1:]),
        "client_ms": quartiles(job[1:]),
        "ratio": round(statistics.median(ratios), 2),
    }


def timed(work: Callable[[int], None], seed: int) -> float:
    start = time.perf_counter()
    work(seed)
    return 1000 * (time.perf_counter() - start)


def quartiles(times: list[float]) -> list[float]:
    return [round(one, 1) for one in statistics.quantiles(times, n=4)]


if __name__ == "__main__":
    main()
