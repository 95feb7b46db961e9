"""Two replicas under Ray Serve on one machine: the same answers, and jobs that either of them answers for."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec

import httpx
import pytest

from tests.support.patience import PATIENCE

pytestmark = [
    pytest.mark.slow,  # Ray starts a small cluster
    pytest.mark.ray,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: the extra `ray` has it"),
]

# In a process of its own: Ray's threads and processes would outlive the test, and its imports warn.
_RUN = """
import json, sys, time
import ray
from ray import serve
from mri_recon_service.ray_app import application

port, values = int(sys.argv[1]), json.loads(sys.argv[2])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(application(values), name="mri-recon")
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("ray")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    values = {"replicas": 2, "num_cpus": 0.5, "data_dir": str(folder / "jobs"), "parser_processes": 1}
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
    with (folder / "err").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, str(port), json.dumps(values)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = b""
        while b"ready" not in said:
            line = process.stdout.readline()
            assert line, (folder / "err").read_text()[-3000:]
            said += line
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False) as client:
            yield client
    finally:
        process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()


def test_two_replicas(replicas: httpx.Client) -> None:
    sample = (files("mri_recon") / "_sample" / "colin27_8ch.h5").read_bytes()
    upload = {"file": ("scan.h5", sample)}
    answers = [
        replicas.post(
            "/v1/reconstructions",
            files=upload,
            data={"method": "zero-filled", "acceleration": "4"},
            headers={"Accept": "application/x-npy"},
        )
        for _ in range(4)
    ]
    assert [one.status_code for one in answers] == [200] * 4, answers[0].text
    assert len({one.content for one in answers}) == 1  # whoever answered
    accepted = replicas.post(
        "/v1/compare",
        files=upload,
        data={"methods": "zero-filled,cg-sense", "acceleration": "4", "cg-sense.max_iters": "3"},
        headers={"Prefer": "respond-async"},
    )
    assert accepted.status_code == 202, accepted.text
    place, deadline = accepted.headers["location"], time.monotonic() + PATIENCE
    while (document := replicas.get(place).json())["status"] not in {"succeeded", "failed"}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert document["status"] == "succeeded", document
    with replicas.stream("GET", f"{place}/events") as events:  # through Ray's proxy, from either replica
        assert "event: end" in events.read().decode()
    results = [replicas.get(f"{place}/result", headers={"Accept": "application/x-npz"}) for _ in range(4)]
    assert {one.status_code for one in results} == {200}
    assert len({one.content for one in results}) == 1
    texts = [replicas.get("/metrics").text for _ in range(40)]
    processes = {re.findall(r"(?m)^process_start_time_seconds (\S+)", text)[0] for text in texts}
    assert len(processes) == 2  # both of them answer
