"""Bad input: one problem document each, with a stable code, and never a 500."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
import torch

import mri_recon as mr
from mri_recon_service.answers.image_files import installed_image_files
from mri_recon_service.problems import PROBLEMS
from mri_recon_service.settings import Settings
from tests.support.methods import add_method

Post = Callable[..., httpx.Response]
Check = Callable[..., dict[str, Any]]
RECONSTRUCTIONS = "/v1/reconstructions"
_UNFINISHED = (
    b"POST /v1/reconstructions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\n"
    b"Content-Length: 9\r\n\r\n1"
)


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({}, "missing-mask", "'acceleration'"),
        ({"method": ""}, "invalid-request", "method: Field required"),
        ({"method": "nope", "acceleration": "3"}, "unknown-method", "'nope'"),
        ({"acceleration": "much"}, "invalid-request", "acceleration"),
        ({"acceleration": "nan"}, "invalid-request", "acceleration"),
        ({"acceleration": "0.5"}, "invalid-mask", "0.5"),
        ({"acceleration": "1e300"}, "invalid-mask", "at least one line"),
        ({"acceleration": "3", "seed": "-1"}, "invalid-request", "seed"),
        ({"acceleration": "3", "mask_kind": "spiral"}, "invalid-request", "'random' or 'equispaced'"),
        ({"acceleration": "3", "center_fraction": "2"}, "invalid-mask", "center_fraction"),
        ({"acceleration": "3", "center_fraction": "0.1", "num_low_frequencies": "3"}, "invalid-mask", "num_low"),
        ({"center_fraction": "0.1"}, "missing-mask", "'acceleration'"),
        ({"acceleration": "3", "mask": "file"}, "conflicting-masks", "give one of them"),
        ({"mask": "file"}, "missing-mask", "none of its own"),
        ({"mask": "other"}, "invalid-request", "mask: Input should be 'file'"),
        ({"acceleration": "3", "reg_weight": "1"}, "unknown-option", "'reg_weight'"),
        (
            {"acceleration": "3", "accelerration": "1"},
            "unknown-option",
            "'accelerration' (did you mean 'acceleration'?)",
        ),
        ({"acceleration": "3", "mask_kind": "randm"}, "invalid-request", "(did you mean 'random'?)"),
        ({"method": "zero-filed", "acceleration": "3"}, "unknown-method", "(did you mean 'zero-filled'?)"),
        ({"method": "unet", "acceleration": "3", "model": "unet-0.2"}, "unknown-model", "(did you mean"),
        ({"method": "cs-wavelet", "acceleration": "3", "reg_weight": "-7"}, "invalid-option", "reg_weight"),
        ({"method": "cg-sense", "acceleration": "3", "reg_weight": "1e39"}, "invalid-option", "<= 1e+06, got 1e+39"),
        ({"method": "cs-wavelet", "acceleration": "3", "sigma": "1e39"}, "invalid-option", "<= 1e+38"),
        ({"method": "cs-wavelet", "acceleration": "3", "reg_weight": "NaN"}, "invalid-option", "reg_weight"),
        ({"method": "cs-wavelet", "acceleration": "3", "gap_tol": "Infinity"}, "invalid-option", "gap_tol"),
        ({"method": "cs-wavelet", "acceleration": "3", "max_iters": "ten"}, "invalid-option", "max_iters"),
        ({"method": "cs-wavelet", "acceleration": "3", "max_iters": "1.5"}, "invalid-option", "max_iters"),
        ({"method": "cs-wavelet", "acceleration": "3", "max_iters": "0"}, "invalid-option", "max_iters"),
        ({"method": "cs-wavelet", "acceleration": "3", "max_iters": "61"}, "invalid-option", "at most 60"),
        ({"method": "cs-wavelet", "acceleration": "3", "max_iters": "[1]"}, "invalid-option", "max_iters"),
        ({"method": "unrolled", "acceleration": "3", "adapt": "10"}, "invalid-option", "'adapt': expected at most 0"),
        ({"method": "unrolled", "acceleration": "3", "adapt": "-1"}, "invalid-option", "adapt"),
        ({"method": "cs-wavelet", "acceleration": "3", "levels": "-1"}, "invalid-option", "expected 1 to 4"),
        ({"method": "cs-wavelet", "acceleration": "3", "levels": "30"}, "invalid-option", "expected 1 to 4"),
        ({"method": "cs-wavelet", "acceleration": "3", "wavelet": "nope"}, "invalid-option", "wavelet"),
        ({"method": "cs-wavelet", "acceleration": "3", "wavelet": "[" * 9000}, "invalid-option", "wavelet"),
        ({"method": "unet", "acceleration": "3", "model": "nope"}, "unknown-model", "'nope'"),
        ({"method": "unet", "acceleration": "3", "model": "../x.safetensors"}, "unknown-model", "registered name"),
        ({"acceleration": "3", "slice": "1"}, "invalid-request", "0 to 0"),
        ({"acceleration": "3", "slice": "-1"}, "invalid-request", "slice"),
        ({"acceleration": "3", "axes": "coil coil"}, "invalid-request", "axes: expected axes out of"),
        ({"acceleration": "3", "axes": "coil readout phase"}, "invalid-request", "axes: expected one name an axis"),
        ({"acceleration": "3", "variable": "other"}, "invalid-request", "variable: expected no variable"),
        ({"acceleration": "3", "seed": "9" * 400}, "invalid-request", "seed"),
        ({"acceleration": "3", "seed": "9" * 5000}, "invalid-request", "seed"),
        ({"acceleration": "3", "slice": "9" * 5000}, "invalid-request", "slice"),
        ({"method": "cs-wavelet", "acceleration": "3", "max_iters": "9" * 5000}, "invalid-option", "max_iters"),
    ],
)
def test_fields(
    client: httpx.Client,
    post: Post,
    kspace: Callable[..., Any],
    problem: Check,
    fields: dict[str, str],
    code: str,
    says: str,
) -> None:
    answer = post(client, kspace(1, 1, 25, 36), options={"method": "zero-filled", **fields})
    assert says in problem(answer, 422, code)["detail"]


def test_valid_names_are_listed(client: httpx.Client, post: Post, kspace: Callable[..., Any], problem: Check) -> None:
    full = kspace(1, 1, 25, 36)
    method = problem(post(client, full, method="nope"), 422, "unknown-method")
    assert method["valid"] == mr.method_names()
    option = problem(post(client, full, method="cs-wavelet", options={"nope": "1"}), 422, "unknown-option")
    assert {"reg_weight", "gap_tol", "max_iters", "acceleration", "mask"} <= set(option["valid"])
    missing = problem(post(client, full), 422, "invalid-request")
    assert missing["valid_methods"] == mr.method_names()
    assert missing["errors"] == [{"field": "method", "message": "Field required"}]


@pytest.mark.parametrize("field", ["axes", "variable", "slice"])
def test_a_field_that_does_not_fit_the_file_is_named(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], problem: Check, field: str
) -> None:
    given = {"axes": "readout phase", "variable": "ksp", "slice": "7"}[field]
    answer = post(client, kspace(1, 1, 25, 36), method="zero-filled", acceleration=3, options={field: given})
    (error,) = problem(answer, 422, "invalid-request")["errors"]
    assert error["field"] == field
    assert error["message"].startswith("expected ")


def _with_nan(full: Any) -> Any:
    full = full.copy()
    full[0, 0, 3, 4] = np.nan
    return full


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("scan.h5", lambda full, npy: b"garbage" * 100),
        ("scan.npy", lambda full, npy: b"garbage" * 100),
        ("scan.npz", lambda full, npy: b"PK\x03\x04" + b"garbage" * 100),
        ("scan.mat", lambda full, npy: b"MATLAB 5.0" + b"\0" * 500),
        ("scan.npy", lambda full, npy: npy(full)[:-9]),
        ("scan.npy", lambda full, npy: npy(_with_nan(full))),
        ("scan.npy", lambda full, npy: npy(np.zeros_like(full))),
        ("scan.npy", lambda full, npy: npy(full.real)),
        ("scan.npy", lambda full, npy: npy(full[0, 0, 0])),
        ("scan.npy", lambda full, npy: npy(full[:, :, :0])),
        ("scan.npy", lambda full, npy: npy(np.array(["a", "b"]))),
        (
            "scan.npy",
            lambda full, npy: (
                b"\x93NUMPY\x01\x00"
                + b"\x76\x00"
                + b"{'descr':'<c8','fortran_order':False,'shape':(9**9,9**9),}".ljust(118)
            ),
        ),
    ],
)
def test_files_that_are_no_scans(
    client: httpx.Client,
    post: Post,
    kspace: Callable[..., Any],
    npy: Callable[[Any], bytes],
    problem: Check,
    name: str,
    make: Callable[..., bytes],
) -> None:
    content = make(kspace(1, 1, 25, 36), npy)
    document = problem(post(client, content, name=name, method="zero-filled", acceleration=3), 422, "invalid-file")
    assert "upload" in document["detail"] or "expected" in document["detail"]


def test_hdf5_that_points_outside(
    client: httpx.Client, post: Post, problem: Check, tmp_path: Path, kspace: Callable[..., Any]
) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kspace"] = kspace(1, 1, 25, 36)[:, 0]
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/kspace")
    answer = post(client, (tmp_path / "scan.h5").read_bytes(), name="a.h5", method="zero-filled", acceleration=3)
    assert "link" in problem(answer, 422, "invalid-file")["detail"]


def test_masks_that_do_not_fit(
    client: httpx.Client,
    post: Post,
    kspace: Callable[..., Any],
    npy: Callable[[Any], bytes],
    fastmri_file: Callable[..., Path],
    problem: Check,
    tmp_path: Path,
) -> None:
    full, fields = kspace(1, 1, 25, 36), {"method": "zero-filled"}
    good = npy(np.arange(36) % 2 == 0)
    problem(post(client, full, mask=("m.npy", npy(np.ones(35, bool))), **fields), 422, "invalid-mask")
    problem(post(client, full, mask=("m.npy", npy(np.zeros(36, bool))), **fields), 422, "invalid-mask")
    problem(post(client, full, mask=("m.npy", b"garbage"), **fields), 422, "invalid-file")
    problem(post(client, full, mask=("m.npy", b""), **fields), 422, "empty-file")
    problem(post(client, full, mask=("m.txt", good), **fields), 415, "unsupported-media-type")
    problem(post(client, full, mask=("m.npy", good), acceleration=3, **fields), 422, "conflicting-masks")
    mask = mr.random_mask(36, 3, seed=0)
    sampled = fastmri_file(tmp_path / "s.h5", mr.undersample(full, mask).numpy(), mask.lines).read_bytes()
    answer = post(client, sampled, name="s.h5", acceleration=3, **fields)
    assert "already undersampled" in problem(answer, 422, "invalid-mask")["detail"]


@pytest.mark.parametrize("to", [RECONSTRUCTIONS, "/v1/compare"])
def test_uploads_that_are_none(client: httpx.Client, problem: Check, npy: Callable[[Any], bytes], to: str) -> None:
    data = {"method": "zero-filled"} if to == RECONSTRUCTIONS else {"methods": "zero-filled"}
    empty = client.post(to, files={"file": ("a.npy", b"")}, data=data)
    problem(empty, 422, "empty-file")
    named = problem(client.post(to, files={"scan": ("a.npy", b"1")}, data=data), 422, "invalid-request")
    assert "'scan'" in named["detail"]
    problem(client.post(to, data={**data, "file": "text"}, files={"mask": ("m.npy", b"1")}), 422, "missing-file")
    problem(client.post(to), 415, "unsupported-media-type")
    form = client.post(to, data=data)
    assert "multipart/form-data" in problem(form, 415, "unsupported-media-type")["valid"]
    raw = client.post(to, content=b"1", headers={"Content-Type": "application/octet-stream"})
    problem(raw, 415, "unsupported-media-type")
    typed = client.post(
        to, params={"filename": "a.exe"}, content=b"1", headers={"Content-Type": "application/octet-stream"}
    )
    assert "'.exe'" in problem(typed, 415, "unsupported-media-type")["detail"]
    problem(client.post(to, content=b"", headers={"Content-Type": "application/x-npy"}), 422, "empty-file")
    problem(client.post(to, files={"file": ("a.tar", b"1")}), 415, "unsupported-media-type")


def _part(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'--B\r\nContent-Disposition: form-data; name="' + name + b'"' + more + b"\r\n\r\n" + value + b"\r\n"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed-body"),
        (b"no boundary at all", 400, "malformed-body"),
        (_part(b"method", b"zero-filled"), 400, "malformed-body"),  # no end
        (b"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--\r\n", 400, "malformed-body"),  # no name
        (b"--B\r\n" + b"X-Long: " + b"a" * 20_000 + b"\r\n\r\nx\r\n--B--\r\n", 400, "malformed-body"),
        (_part(b"a", b"1") * 65 + b"--B--\r\n", 422, "invalid-request"),  # repeated
        (b"".join(_part(b"f%d" % i, b"1") for i in range(65)) + b"--B--\r\n", 422, "invalid-request"),  # too many
        (_part(b"method", b"a" * 20_000) + b"--B--\r\n", 422, "invalid-request"),  # too long
        (_part(b"file", b"1", b'; filename="a.npy"') * 2 + b"--B--\r\n", 422, "invalid-request"),  # twice
        (_part(b"file", b"1", b'; filename="\xff\xfe.npy"') + b"--B--\r\n", 422, "invalid-request"),  # no method
        (_part(b"file", b"1", b'; filename="../../a"') + b"--B--\r\n", 415, "unsupported-media-type"),
    ],
)
def test_multipart_bodies(client: httpx.Client, problem: Check, body: bytes, status: int, code: str) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    problem(client.post(RECONSTRUCTIONS, content=body, headers=headers), status, code)


def test_multipart_without_a_boundary(client: httpx.Client, problem: Check) -> None:
    answer = client.post(RECONSTRUCTIONS, content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert "boundary" in problem(answer, 400, "malformed-body")["detail"]


def test_a_field_in_form_and_query(
    client: httpx.Client, npy: Callable[[Any], bytes], kspace: Callable[..., Any], problem: Check
) -> None:
    answer = client.post(
        RECONSTRUCTIONS,
        params={"method": "zero-filled"},
        files={"file": ("a.npy", npy(kspace(1, 1, 25, 36)))},
        data={"method": "cs-wavelet"},
    )
    assert "once" in problem(answer, 422, "invalid-request")["detail"]


@pytest.mark.parametrize("streamed", [False, True], ids=["declared", "streamed"])
def test_too_large(client: httpx.Client, problem: Check, streamed: bool) -> None:
    body = b"0" * 2_000_001
    content = iter([body[:1_500_000], body[1_500_000:]]) if streamed else body
    answer = client.post(RECONSTRUCTIONS, content=content, headers={"Content-Type": "application/x-npy"})
    assert problem(answer, 413, "upload-too-large")["limit"] == 2_000_000
    assert client.get("/health/live").status_code == 200


def test_too_large_once_decoded(serve: Any, post: Post, kspace: Callable[..., Any], problem: Check) -> None:
    with serve(Settings(max_decoded_bytes=7199)) as client:
        answer = post(client, kspace(1, 1, 25, 36), method="zero-filled", acceleration=3)
        assert "at most 7199 bytes" in problem(answer, 422, "invalid-file")["detail"]


@pytest.mark.parametrize("accept", ["text/html", "application/json", "image/*;q=0", "application/x-hdf5;q=0"])
def test_not_acceptable(
    client: httpx.Client, post: Post, kspace: Callable[..., Any], problem: Check, accept: str
) -> None:
    answer = post(client, kspace(1, 1, 25, 36), accept=accept, method="zero-filled", acceleration=3)
    assert problem(answer, 406, "not-acceptable")["valid"] == [
        "application/x-hdf5",
        "application/x-npy",
        "application/x-npz",
        "image/png",
        *installed_image_files(),
    ]


def test_addresses_and_methods(client: httpx.Client, problem: Check) -> None:
    for path in ("/nope", "/v1", "/v1/models/", "/static/../app.py", "/static/nope.js", "/problems/nope"):
        problem(client.get(path), 404, "not-found")
    for path, allowed in ((RECONSTRUCTIONS, "POST"), ("/v1/compare", "POST"), ("/v1/models", "GET")):
        answer = client.request("DELETE", path)
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["allow"] == allowed


def test_what_is_unexpected_stays_inside(
    client: httpx.Client,
    post: Post,
    kspace: Callable[..., Any],
    problem: Check,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(kspace: torch.Tensor, mask: Any, *, sens_maps: Any) -> Any:
        raise RuntimeError("secret of the server")

    add_method(monkeypatch, "broken", broken)
    answer = post(client, kspace(1, 1, 25, 36), method="broken", acceleration=3)
    document = problem(answer, 500, "internal-error")
    assert "secret" not in answer.text
    assert document["request_id"] in document["detail"]
    assert f"request {document['request_id']} failed" in caplog.text
    assert "secret of the server" in caplog.text


def test_nothing_stays_on_disk(
    serve: Any, post: Post, kspace: Callable[..., Any], tmp_path: Path, npy: Callable[[Any], bytes]
) -> None:
    """Whatever comes of a request, its files are gone with the answer."""
    with serve(Settings(upload_dir=tmp_path)) as client:
        full = kspace(1, 1, 25, 36)
        for fields, status in (
            ({"method": "zero-filled", "acceleration": 3}, 200),
            ({"method": "zero-filled"}, 422),
            ({"method": "nope"}, 422),
            ({"method": "zero-filled", "mask": ("m.npy", npy(np.ones(3, bool)))}, 422),
        ):
            assert post(client, full, **fields).status_code == status
            assert not list(tmp_path.iterdir())
        client.post(RECONSTRUCTIONS, content=b"x", headers={"Content-Type": "multipart/form-data; boundary=B"})
        assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(
    serve: Any, post: Post, kspace: Callable[..., Any], problem: Check, tmp_path: Path
) -> None:
    with serve(Settings(upload_dir=tmp_path / "gone")) as client:
        problem(post(client, kspace(1, 1, 25, 36), method="zero-filled", acceleration=3), 507, "storage-full")


def test_a_slow_upload_times_out(serve: Any, problem: Check) -> None:
    with serve(Settings(upload_timeout_seconds=0.2)) as client:
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(_UNFINISHED)
            # The headers may come alone; the server closes the connection after its answer.
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"upload-timeout"' in answer
        assert client.get("/health/live").status_code == 200


def test_a_client_that_leaves(serve: Any, tmp_path: Path) -> None:
    with serve(Settings(upload_dir=tmp_path)) as client:
        address = (client.base_url.host, client.base_url.port)
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(_UNFINISHED)
        for _ in range(200):
            if client.get("/health/live").status_code == 200 and not list(tmp_path.iterdir()):
                return
        pytest.fail("the upload of a client that left is still there")


def test_a_request_id_is_kept_where_it_is_plain(client: httpx.Client) -> None:
    assert client.get("/nope", headers={"X-Request-Id": "case-7.a"}).json()["request_id"] == "case-7.a"
    for odd in ("<b>", "a b", "a" * 65, ""):
        assert client.get("/nope", headers={"X-Request-Id": odd}).json()["request_id"] != odd


def test_every_code_is_described(client: httpx.Client) -> None:
    listed = client.get("/problems").json()
    assert [one["code"] for one in listed] == list(PROBLEMS)
    for one in listed:
        assert client.get(f"/problems/{one['code']}").json() == one
        assert 400 <= one["status"] < 600
        assert one["title"]
        assert one["cure"].endswith(".")
