"""Health and metadata of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import httpx
import pytest

from mri_recon.models.checkpoint import load_named, shipped_models
from mri_recon_service.readiness import Readiness
from mri_recon_service.settings import Settings
from tests.support.service import until

Check = Callable[..., dict[str, Any]]


def test_server(client: httpx.Client) -> None:
    assert client.get("/v2").json() == {"name": "mri-recon", "version": version("mri-recon"), "extensions": []}
    assert client.get("/v2/health/live").json() == {"live": True}


def test_models(tiny_model: str, serve: Any) -> None:
    with serve(Settings()) as client:
        until(lambda: client.get("/v2/health/ready").status_code == 200)
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert client.get(f"/v2/models/{tiny_model}/ready").json() == {"name": tiny_model, "ready": True}
        document = client.get(f"/v2/models/{tiny_model}").json()
    assert set(document) == {"name", "versions", "platform", "inputs", "outputs", "parameters"}
    assert document["name"] == tiny_model
    assert document["parameters"]["sha256"] == load_named(tiny_model).sha256
    assert document["parameters"]["inference"] == "/v1/reconstructions"
    assert [one["name"] for one in document["inputs"]] == ["kspace", "mask"]
    for tensor in [*document["inputs"], *document["outputs"]]:
        assert set(tensor) == {"name", "datatype", "shape"}
        assert tensor["datatype"] in {"FP32", "BOOL"}
        assert all(isinstance(n, int) for n in tensor["shape"])


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_a_model_names_the_method_that_runs_it(name: str, client: httpx.Client) -> None:
    method = client.get(f"/v2/models/{name}").json()["parameters"]["method"]
    assert method == name.partition("-")[0]  # unet-0.1 and unrolled-0.1 are former weights


def test_not_ready(tiny_model: str, serve: Any, problem: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Readiness, "start", lambda self: None)
    with serve(Settings()) as client:
        for path in ("/v2/health/ready", f"/v2/models/{tiny_model}/ready"):
            document = problem(client.get(path), 503, "not-ready")
            assert document["error"] == document["detail"] == "the models are being loaded"
        assert client.get("/v2/health/live").json() == {"live": True}


def test_unknown_models(client: httpx.Client, problem: Check) -> None:
    for path in ("/v2/models/nope", "/v2/models/nope/ready", "/v2/models/..%2Funet"):
        answer = client.get(path)
        if answer.json()["code"] == "not-found":  # a slash in a name is another address
            continue
        document = problem(answer, 404, "unknown-inference-model")
        assert document["error"] == document["detail"]
        assert "unet" in document["valid"]
    problem(client.post("/v2/models/unet/infer", json={}), 404, "not-found")
