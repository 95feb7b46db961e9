"""What is around the reconstructions: health, models, documentation, settings, the small parts."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydantic import ValidationError

from mri_recon.errors import CheckpointError, ConfigError
from mri_recon.methods.table import method_names
from mri_recon.models.checkpoint import shipped_models
from mri_recon_service.answers.image_files import installed_image_files
from mri_recon_service.answers.png import gray_png
from mri_recon_service.app import create_app
from mri_recon_service.cli import listen, read_settings
from mri_recon_service.http.negotiation import choose
from mri_recon_service.problems import Problem
from mri_recon_service.readiness import Readiness
from mri_recon_service.settings import Settings, is_loopback

OFFERS = ["application/x-hdf5", "application/x-npy", "image/png"]
RECONSTRUCTION_OFFERS = [
    "application/x-hdf5",
    "application/x-npy",
    "application/x-npz",
    "image/png",
    *installed_image_files(),
]


def test_models_and_methods(tiny_model: str, serve: Any) -> None:
    with serve(Settings()) as client:
        document = client.get("/v1/models").json()
        (card,) = document["models"]
        assert card["name"] == tiny_model
        assert len(card["sha256"]) == 64
        assert {one["name"] for one in document["methods"]} == set(method_names())
        options = {one["name"]: one["options"] for one in document["methods"]}
        assert options["cs-wavelet"]["reg_weight"] == "auto"
        assert options["unet"] == {
            "model": "unet",
            "data_consistency": "weighted",
            "sigma": None,
            "adapt": 0,
            "adapt_seed": 0,
        }
        assert all(one["summary"].endswith(".") for one in document["methods"])
        lacks = client.app.state.parser.restrictions.lacks  # waits for the first process that parses
        for _ in range(500):
            answer = client.get("/health/ready")
            if answer.status_code == 200:
                break
        found = answer.json()
        assert found == {"status": "ready", "models": [tiny_model], "audit": "off", "sandbox_lacks": lacks}


def test_the_formats_that_can_be_written_are_listed(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client offers what this installation can write, and names the cure for the rest."""
    formats = {one["suffix"]: one for one in client.get("/v1/models").json()["formats"]}
    assert list(formats) == [".h5", ".dcm", ".dcm.zip", ".nii.gz", ".mrd", ".mat"]
    assert formats[".nii.gz"]["media_type"] == "application/x-nifti"
    monkeypatch.setattr("mri_recon_service.answers.image_files.find_spec", lambda _: None)
    for one in client.get("/v1/models").json()["formats"]:
        lacks = one["suffix"] in (".dcm", ".dcm.zip", ".nii.gz")
        assert one["available"] != lacks
        assert one["needs"] == ("pip install 'mri-recon[clinical]'" if lacks else None)


def test_not_ready_with_a_reason(
    client: httpx.Client, serve: Any, problem: Callable[..., Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr(Readiness, "start", lambda self: None)
    with serve(Settings()) as cold:
        assert cold.get("/health/live").status_code == 200
        answer = cold.get("/health/ready")
        assert problem(answer, 503, "not-ready")["detail"] == "the models are being loaded"
        assert answer.headers["retry-after"]


def test_every_shipped_model_has_run_when_the_service_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(
        "mri_recon_service.readiness.reconstruct", lambda *args, method, model, **kwargs: ran.append((method, model))
    )
    readiness = Readiness("cpu")
    readiness.warm()
    assert readiness.reason is None
    assert readiness.models == list(shipped_models())
    assert ran == [(name.partition("-")[0], name) for name in shipped_models()]


@pytest.mark.parametrize(
    ("error", "says"),
    [(CheckpointError("weights are damaged"), "weights are damaged"), (RuntimeError("x"), "the service's log")],
)
def test_models_that_cannot_be_loaded(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr("mri_recon_service.readiness.load_named", fail)
    readiness = Readiness("cpu")
    readiness.warm()
    assert readiness.reason is not None
    assert says in readiness.reason
    assert readiness.models == []


def test_damaged_weights_are_the_operators_problem(
    tiny_model: str,
    serve: Any,
    post: Callable[..., httpx.Response],
    kspace: Callable[..., Any],
    problem: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "package" / "weights" / "unet.safetensors").write_bytes(b"damaged")
    with serve(Settings()) as client:
        problem(client.get("/v1/models"), 503, "model-unavailable")
        answer = post(client, kspace(1, 1, 25, 36), method="unet", acceleration=3)
        assert "log" in problem(answer, 503, "model-unavailable")["detail"]
    assert "expected SHA-256" in caplog.text


def test_docs_need_no_network(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assets = re.findall(r'(?:src|href|url)\s*[=:]\s*[\'"]([^\'"]+)[\'"]', page.text)
    assert "openapi.json" in assets
    assert not [asset for asset in assets if "//" in asset]
    for asset in assets:
        answer = client.get(f"/{asset}")
        assert answer.status_code == 200, asset
        assert answer.content


def test_the_openapi_document(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/v1/reconstructions",
        "/v1/compare",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}/methods/{method}",
        "/v1/jobs/{job_id}/parts/{name}",
        "/v1/jobs/{job_id}/result",
        "/v1/models",
        "/v1/sample",
        "/v1/masks",
        "/v1/validate",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model_name}",
        "/v2/models/{model_name}/ready",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/problems",
        "/problems/{code}",
    }
    post = document["paths"]["/v1/reconstructions"]["post"]
    assert post["requestBody"]["content"]["multipart/form-data"]["schema"]["$ref"].endswith("/ReconstructionForm")
    form = document["components"]["schemas"]["ReconstructionForm"]
    assert form["required"] == ["file", "method"]
    assert {"acceleration", "center_fraction", "num_low_frequencies", "seed", "mask", "axes"} <= set(form["properties"])
    assert list(post["responses"]["200"]["content"]) == RECONSTRUCTION_OFFERS
    for status in ("400", "406", "413", "415", "422", "429", "500", "503"):
        assert list(post["responses"][status]["content"]) == ["application/problem+json"]
    assert "Research only" in document["info"]["description"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert Settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "", "localhost.example.org"])
def test_other_addresses_need_keys(host: str, tmp_path: Path) -> None:
    assert not is_loopback(host)
    settings = Settings(host=host, keys_file=tmp_path / "keys.json")
    assert settings.keys_required
    with pytest.raises(ConfigError, match="at least one API key .* `mri-recon key add NAME`"):
        create_app(settings)


def test_where_keys_are_needed() -> None:
    assert not Settings().keys_required
    assert Settings(require_keys=True).keys_required
    assert not Settings(allowed_hosts=("localhost",)).keys_required
    assert Settings(allowed_hosts=("localhost", "mri.example.org")).keys_required  # a proxy stands before it


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRI_RECON_PORT", "8123")
    monkeypatch.setenv("MRI_RECON_MAX_UPLOAD_BYTES", "1000")
    monkeypatch.setenv("MRI_RECON_DATA", "elsewhere")  # another room's variable
    monkeypatch.setenv("MRI_RECON_ALLOWED_HOSTS", "A.example.org, b.example.org,")
    assert Settings().allowed_hosts == ("a.example.org", "b.example.org")
    assert (Settings().port, Settings().max_upload_bytes) == (8123, 1000)
    assert read_settings(port=1, host=None).port == 1
    monkeypatch.setenv("MRI_RECON_WORKER_THREADS", "none")
    with pytest.raises(ConfigError, match="setting worker_threads: .*integer"):
        read_settings()
    with pytest.raises(ValidationError, match="typo"):
        Settings(typo=1)  # type: ignore[call-arg]


def test_an_address_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1 port {port} cannot be used .*choose another --port"):
            listen("127.0.0.1", port)
    with pytest.raises(ConfigError, match="cannot be used"):
        listen("no-such-host.invalid", 1)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, OFFERS[0]),
        ("", OFFERS[0]),
        ("*/*", OFFERS[0]),
        ("image/*", OFFERS[2]),
        ("application/*", OFFERS[0]),
        ("IMAGE/PNG", OFFERS[2]),
        ("image/png, application/x-npy", OFFERS[1]),
        ("image/png;q=0.9, application/x-npy;q=0.5", OFFERS[2]),
        ("text/html, */*;q=0.1", OFFERS[0]),
        ("application/x-hdf5;q=0, */*", OFFERS[1]),
        ("application/x-hdf5;q=0.2, application/*;q=0.3", OFFERS[1]),
        ("image/png;q=x, application/x-npy;q=0.1", OFFERS[1]),
    ],
)
def test_negotiation(accept: str | None, expected: str) -> None:
    assert choose(accept, OFFERS) == expected


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_no_accept_header_breaks_the_negotiation(accept: str) -> None:
    with suppress(Problem):  # not-acceptable, and nothing else
        assert choose(accept, OFFERS) in OFFERS


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(0, 4, width=32)),
    st.sampled_from([0.0, 1.0, 3.0]),
)
@settings(max_examples=40)
def test_png_pixels_are_the_window(image: Any, high: float) -> None:
    with Image.open(io.BytesIO(gray_png(image, high=high, text={"Window": f"0 {high:g}"}))) as read:
        expected = np.rint(255 * np.clip(image.astype(float) / high, 0, 1)) if high else np.zeros(image.shape)
        np.testing.assert_array_equal(np.asarray(read), expected)
        assert read.info["Window"] == f"0 {high:g}"
