"""Other web pages are kept out: names, origins, headers for browsers, exposure."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mri_recon.errors import ConfigError
from mri_recon_service.http.keys import add_key
from mri_recon_service.http.security import API_POLICY, PAGE_POLICY, check_exposure, host_name, route_path
from mri_recon_service.settings import Settings, is_loopback

Check = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "127.0.0.1:9", "127.8.9.1", "[::1]", "[::1]:80", "LOCALHOST", "localhost:"]
)
def test_loopback_names(client: httpx.Client, host: str) -> None:
    assert client.get("/v1/sample", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "", "10.0.0.1"),
        *("[::1].evil.example", "[::1].evil.example:8000", "[::1]x", "[::1", "::1", "[::1%evil.example]"),
        *("127.0.0.1]", "]127.0.0.1[", "[[::1]]", "evil.example@localhost", "localhost@evil.example", "localhost:1:2"),
        *("localhost:x", "localhost/.evil.example", "localhost#.evil.example", "localhost, evil.example"),
    ],
)
def test_dns_rebinding(client: httpx.Client, problem: Check, host: str) -> None:
    """A name that points here by someone else's will is not ours, whatever is asked for."""
    for path in ("/v1/sample", "/", "/docs", "/metrics", "/nope"):
        answer = client.get(path, headers={"Host": host})
        assert "MRI_RECON_ALLOWED_HOSTS" in problem(answer, 421, "unknown-host")["detail"]
    assert client.get("/health/live", headers={"Host": host}).status_code == 200  # probes call it by its address


_OURS = ["localhost", "LocalHost", "127.0.0.1", "127.8.9.1", "[::1]", "mri.example.org"]
_NOISE = st.text("abcxyz019.:-_[]@%/#? ,\\\t\u0131\uff0e", max_size=12)


def _served(host: str) -> bool:
    """What RFC 9110 calls the host: a name or an address in brackets, then a port or nothing."""
    return any(
        host.lower() == name.lower() or re.fullmatch(re.escape(name) + ":[0-9]{0,5}", host, re.IGNORECASE | re.ASCII)
        for name in _OURS
    )


@given(st.sampled_from(_OURS), _NOISE, _NOISE)
@example("[::1]", "", ".evil.example")
@example("127.0.0.1", "", "]")
@example("localhost", "", ":8000")
@hypothesis_settings(max_examples=500, deadline=None)
def test_only_the_whole_name_is_ours(name: str, before: str, after: str) -> None:
    """Text around a name of ours makes another name of it, unless the text is a port."""
    host = before + name + after
    found = host_name(host)
    other_loopback = re.fullmatch(r"127(\.[0-9]{1,3}){3}", found) is not None
    assert (found in {one.lower() for one in _OURS} or (other_loopback and is_loopback(found))) == (
        _served(host) or other_loopback
    )
    assert found in ("", host.lower(), host.lower().rpartition(":")[0])  # never a part of the name


_FROM_OTHERS: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},  # another service of this machine
    {"Origin": "file://"},
    {"Origin": "http://[bad"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "{own}"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
]


@pytest.mark.parametrize("headers", _FROM_OTHERS)
def test_posts_of_other_pages(client: httpx.Client, problem: Check, headers: dict[str, str]) -> None:
    own = f"http://{client.base_url.host}:{client.base_url.port}"
    sent = {name: value.replace("{own}", own) for name, value in headers.items()}
    for method, path in (("POST", "/v1/masks"), ("POST", "/v1/reconstructions"), ("DELETE", "/v1/jobs/x")):
        problem(client.request(method, path, headers=sent), 403, "forbidden-origin")
    for path in ("/v1/models", "/v1/masks?width=64&acceleration=2", "/v1/sample", "/v1/jobs/x", "/v2", "/metrics"):
        answer = client.get(
            path, headers=sent
        )  # the address of a picture, say: its browser sends it, and hides the answer
        problem(answer, 403, "forbidden-origin")
        assert client.head(path, headers=sent).status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    for path in ("/", "/docs", "/problems", "/static/viewer/main.js", "/health/live"):  # a page may link to ours
        assert client.get(path, headers=sent).status_code in (200, 404), path


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin", "Origin": "{own}"}, {"Origin": "{own}"}, {"Sec-Fetch-Site": "none"}],
)
def test_posts_of_programs_and_of_our_page(client: httpx.Client, headers: dict[str, str]) -> None:
    own = f"http://{client.base_url.host}:{client.base_url.port}"
    sent = {name: value.replace("{own}", own) for name, value in headers.items()}
    assert client.post("/v1/masks", json={"width": 32, "acceleration": 2}, headers=sent).status_code == 200
    assert client.get("/v1/masks", params={"width": 32, "acceleration": 2}, headers=sent).status_code == 200


@pytest.fixture
def behind_a_proxy(serve: Any, tmp_path: Path) -> Iterator[httpx.Client]:
    key = add_key(tmp_path / "keys.json", "proxy")
    settings = Settings(
        allowed_hosts=("mri.example.org",),
        allowed_origins=("https://pacs.example.org",),
        keys_file=tmp_path / "keys.json",
        data_dir=tmp_path / "jobs",
    )
    with serve(settings) as client:
        client.headers.update({"X-API-Key": key, "Host": "mri.example.org"})
        yield client


def test_a_listed_name_and_a_listed_origin(behind_a_proxy: httpx.Client, problem: Check) -> None:
    client = behind_a_proxy
    fields = {"width": 32, "acceleration": 2}
    # TLS ends at the proxy: the page's scheme is https, ours is not.
    own = client.post("/v1/masks", json=fields, headers={"Origin": "https://mri.example.org"})
    assert own.status_code == 200
    problem(client.get("/v1/models", headers={"Host": "other.example.org"}), 421, "unknown-host")
    other = {"Origin": "https://pacs.example.org", "Sec-Fetch-Site": "cross-site"}
    answer = client.post("/v1/masks", json=fields, headers=other)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://pacs.example.org"
    assert client.get("/v1/models", headers=other).status_code == 200
    asked = {**other, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "x-api-key"}
    preflight = client.options("/v1/jobs/x", headers=asked | {"X-API-Key": ""})  # a browser sends no key here
    assert preflight.status_code == 200
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    problem(client.post("/v1/masks", json=fields, headers={"Origin": "https://evil.example"}), 403, "forbidden-origin")


def test_headers_for_browsers(client: httpx.Client) -> None:
    for path in ("/v1/models", "/nope", "/health/live", "/openapi.json", "/v1/sample"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == API_POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
    assert client.get("/").headers["content-security-policy"] == PAGE_POLICY
    assert client.get("/static/swagger-ui/swagger-ui.css").headers["content-security-policy"] == PAGE_POLICY
    assert "'unsafe" not in PAGE_POLICY


def test_the_documentation_may_run_its_one_script(client: httpx.Client) -> None:
    page = client.get("/docs")
    (script,) = re.findall(r"<script>(.*?)</script>", page.text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]


def test_exposure() -> None:
    check_exposure(Settings(), ["network", "calls", "files"])
    check_exposure(Settings(host="0.0.0.0"), [])
    with pytest.raises(ConfigError, match="loopback address .*got '0.0.0.0'.* want of a network namespace or seccomp;"):
        check_exposure(Settings(host="0.0.0.0"), ["network"])
    with pytest.raises(ConfigError, match="want of seccomp on x86-64 or AArch64 and landlock .*; listen on 127.0.0.1"):
        check_exposure(Settings(host="0.0.0.0"), ["calls", "files"])
    with pytest.raises(ConfigError, match="and the names mri.example.org: other machines would reach it"):
        check_exposure(Settings(allowed_hosts=("mri.example.org",)), ["files"])


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [("", "/v1", "/v1"), ("/mri", "/mri/v1", "/v1"), ("/mri", "/mrix/v1", "/mrix/v1"), ("/mri", "/v1", "/v1")],
)
def test_paths_below_a_prefix(root: str, path: str, expected: str) -> None:
    assert route_path({"path": path, "root_path": root}) == expected
