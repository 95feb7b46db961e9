"""The log: one JSON object a line, with the id of its request, and nothing that a user sent."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from mri_recon_service.http import logs
from mri_recon_service.settings import Settings
from tests.support.methods import add_method

CANARY = "kanarienvogel"
Post = Callable[..., httpx.Response]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the process logs to, as `mri-recon serve` sets it up."""
    root = logging.getLogger()
    before, level, stream = list(root.handlers), root.level, io.StringIO()
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_user_data(
    serve: Any,
    post: Post,
    kspace: Callable[..., Any],
    npy: Any,
    stream: io.StringIO,
    form: Any,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    def broken(kspace: torch.Tensor, mask: Any, *, sens_maps: Any) -> Any:
        raise RuntimeError(f"{CANARY} in a message")

    add_method(monkeypatch, "broken", broken)
    logs.configure(Settings(log_format=form, log_level="debug"), stream)
    for name in ("httpcore", "httpx"):  # the client is no part of the service
        logging.getLogger(name).setLevel("WARNING")
    with serve(Settings(data_dir=tmp_path)) as client:
        client.timeout = 120
        client.headers.update({"User-Agent": CANARY, "Cookie": CANARY, "X-Canary": CANARY, "Referer": CANARY})
        full = kspace(1, 1, 25, 36)
        good = post(client, full, name=f"{CANARY}.npy", method="zero-filled", acceleration=3)
        assert good.status_code == 200
        post(client, full, name=f"a.{CANARY}", method="zero-filled", acceleration=3)
        post(client, full, method=CANARY, acceleration=3)
        post(client, full, method="zero-filled", options={CANARY: CANARY}, acceleration=3)
        post(client, full, method="zero-filled", acceleration=3, axes=CANARY)
        post(client, b"garbage" + CANARY.encode(), method="zero-filled", acceleration=3)
        assert post(client, full, method="broken", acceleration=3).status_code == 500
        client.get(f"/{CANARY}", params={CANARY: CANARY})
        client.get(f"/problems/{CANARY}")
        client.get(f"/v1/jobs/{CANARY}", headers={"Authorization": f"Bearer {CANARY}"})
        client.request(CANARY, "/v1/models")
        client.get("/v1/models", headers={"Host": CANARY})
        client.post("/v1/masks", json={"width": CANARY, CANARY: 1})
        client.post("/v1/masks", json={"width": 8, "acceleration": 2}, headers={"Origin": CANARY})
        client.post("/v1/validate", files={"file": (CANARY, b"1")}, data={CANARY: "1"})
        client.get("/v1/models", headers={"X-Request-Id": f"{CANARY} with a space"})
    text = stream.getvalue()
    assert CANARY.casefold() not in text.casefold()
    assert "/v1/reconstructions" in text
    assert "builtins.RuntimeError" in text


def test_lines_are_json_with_the_request_id(serve: Any, stream: io.StringIO, tmp_path: Path) -> None:
    logs.configure(Settings(), stream)
    with serve(Settings(data_dir=tmp_path)) as client:
        client.get("/v1/sample", headers={"X-Request-Id": "my-id.1"})
        answer = client.get("/health/live")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    requests = [line for line in lines if line["message"] == "request"]
    mine, live = requests[-2:]
    assert mine["request_id"] == "my-id.1"
    assert (mine["method"], mine["route"], mine["status"], mine["client"]) == ("GET", "/v1/sample", 200, "")
    assert mine["ms"] > 0
    assert mine["level"] == "info"
    assert live["request_id"] == answer.headers["x-request-id"]
    assert live["time"].endswith("+00:00")


def _record() -> logging.LogRecord:
    try:
        try:
            raise KeyError("inner secret")
        except KeyError as error:
            raise ValueError("outer secret") from error
    except ValueError:
        return logging.LogRecord("a", logging.ERROR, __file__, 1, "it %s", ("failed",), sys.exc_info())


def test_errors_are_types_and_places() -> None:
    line = json.loads(logs.JsonFormatter().format(_record()))
    assert line["message"] == "it failed"
    assert [one["type"] for one in line["errors"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert line["errors"][0]["at"][0].startswith("service/test_logs.py:")
    assert "secret" not in json.dumps(line)
    told = json.loads(logs.JsonFormatter(messages=True).format(_record()))
    assert [one["message"] for one in told["errors"]] == ["outer secret", "'inner secret'"]


def test_plain_lines() -> None:
    text = logs.TextFormatter().format(_record())
    assert "ERROR a: it failed\n  builtins.ValueError at service/test_logs.py:" in text
    assert "secret" not in text
    assert "builtins.ValueError: outer secret at" in logs.TextFormatter(messages=True).format(_record())


def test_an_error_that_is_its_own_cause_ends() -> None:
    error = ValueError("x")
    error.__context__ = other = KeyError("y")
    other.__context__ = error
    record = logging.LogRecord("a", logging.ERROR, __file__, 1, "x", (), (ValueError, error, None))
    assert len(json.loads(logs.JsonFormatter().format(record))["errors"]) == 2


def test_values_that_json_has_not(stream: io.StringIO) -> None:
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "x", (), None)
    record.fields = {"status": np.int64(3)}
    assert json.loads(logs.JsonFormatter().format(record))["status"] == "3"
