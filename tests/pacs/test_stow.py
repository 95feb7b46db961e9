"""STOW-RS against an HTTP server in this process, which answers what a test says."""

from __future__ import annotations

import email
from collections.abc import Callable
from pathlib import Path

import pytest

from mri_recon.errors import ConfigError, TransferError
from mri_recon.pacs import Credentials, Outcome, Retries, StowTarget, collect, echo, send
from tests.support.pacs import JSON, STORED, XML, failed, service, warned

pydicom = pytest.importorskip("pydicom", reason="the extra 'pacs' is not installed")
pytest.importorskip("dicomweb_client", reason="the extra 'pacs' is not installed")

NOW = Retries(2, first=0)


def states(outcomes: list[Outcome]) -> list[str]:
    return [one.state for one in outcomes]


def test_each_instance_is_one_request(written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm.zip")])
    with service([]) as (url, requests):
        assert states(send(StowTarget(url), found.instances)) == ["stored"] * 3
    assert [(method, path) for method, path, _, _ in requests] == [("POST", "/web/studies")] * 3
    for instance, (_, _, headers, body) in zip(found.instances, requests, strict=True):
        assert headers["Accept"] == JSON
        assert "Authorization" not in headers
        message = email.message_from_bytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        assert message.get_content_type() == "multipart/related"
        assert instance.read() in body  # byte for byte


@pytest.mark.parametrize("wrapped", [False, True])
def test_reports(wrapped: bool, written: Callable[..., Path]) -> None:
    """The object of PS3.18, or a list of one as some services send it; with a charset."""
    found = collect([written("a.dcm")])
    for status, report, state, reason in (
        (200, STORED, "stored", ""),
        (202, warned(0xB000), "warning", "elements were coerced (0xB000)"),
        (200, warned(0xB006), "warning", "elements were discarded (0xB006)"),
        (409, failed(0x0122), "failed", "SOP class not supported (0x0122)"),
        (202, failed(0xA900), "failed", "the data set does not match its SOP class (0xA900)"),
        (409, failed(0xC122), "failed", "transfer syntax not supported (0xC122)"),
        (409, failed(0xC000), "failed", "the service cannot read the instance (0xC000)"),
        (409, failed(0x1234), "failed", "no reason known (0x1234)"),
        (400, failed(0x0110), "failed", "processing failure (0x0110)"),
    ):
        headers = {"Content-Type": f"{JSON}; charset=utf-8" if wrapped else JSON}
        with service([(status, [report] if wrapped else report, headers)]) as (url, requests):
            (outcome,) = send(StowTarget(url), found.instances, retries=NOW)
        assert (outcome.state, outcome.reason, len(requests)) == (state, reason, 1)


def test_answers_without_a_report(written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm")])
    text = {"Content-Type": "text/plain"}
    unread = "the service cannot read the request (HTTP 400"
    for status, body, headers, state, reason in (
        (200, b"", {}, "stored", ""),
        (200, b"<html>", {"Content-Type": "text/html"}, "stored", ""),
        (200, b"{broken", {}, "stored", ""),
        (202, b"", {}, "warning", "HTTP 202 without a report: see the log of the service"),
        (
            400,
            b"bad\x1b[31m\nrequest",
            text,
            "failed",
            f"{unread}: bad\\x1b[31m request)",
        ),
        (409, b"", {}, "failed", "the service refused the instance without a reason (HTTP 409)"),
        (413, b"", {}, "failed", "the instance is larger than the service or its proxy takes: raise the limit"),
        (415, b"", {}, "failed", "the service does not take this kind of DICOM (HTTP 415)"),
        (418, b"", {}, "failed", "the service refused (HTTP 418)"),
        (500, b"", {}, "failed", "the service failed, see its log (HTTP 500)"),
        (507, b"", {}, "failed", "the service has no room (HTTP 507)"),
    ):
        with service([(status, body, headers)]) as (url, requests):
            (outcome,) = send(StowTarget(url), found.instances, retries=NOW)
        assert (outcome.state, len(requests)) == (state, 1), status
        assert outcome.reason.startswith(reason)
        assert bool(outcome.reason) == bool(reason)


def test_a_report_in_xml(written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm")])
    report = b"""<?xml version="1.0"?><NativeDicomModel>
    <DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence"><Item number="1">
    <DicomAttribute tag="00081197" vr="US" keyword="FailureReason"><Value number="1">290</Value></DicomAttribute>
    </Item></DicomAttribute></NativeDicomModel>"""
    with service([(409, report, {"Content-Type": XML})]) as (url, _):
        (outcome,) = send(StowTarget(url), found.instances)
    assert (outcome.state, outcome.reason) == ("failed", "SOP class not supported (0x0122)")


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_what_may_succeed_later_is_repeated(status: int, written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm")])
    waits: list[float] = []
    plan = Retries(3, first=1, sleep=waits.append)
    with service([(status, b"", {"Retry-After": "7"}), (status, b""), None, (200, STORED)]) as (url, requests):
        assert states(send(StowTarget(url), found.instances, retries=plan)) == ["stored"]
    assert waits == [7, 2, 4]
    assert len(requests) == 4
    with service([(status, b"")] * 9) as (url, requests), pytest.raises(TransferError, match=f"HTTP {status}") as error:
        send(StowTarget(url), found.instances, retries=NOW)
    assert (len(requests), error.value.later) == (3, True)


def test_out_of_resources_is_repeated(written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm")])
    with service([(409, failed(0xA700)), (200, STORED)]) as (url, requests):
        assert states(send(StowTarget(url), found.instances, retries=NOW)) == ["stored"]
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "wants credentials (HTTP 401): set MRI_RECON_PACS_USER and MRI_RECON_PACS_PASSWORD"),
        (403, "does not allow this (HTTP 403): ask its administrator for the right"),
        (404, "has no STOW-RS there (HTTP 404): give the base address of DICOMweb"),
        (405, "has no STOW-RS there (HTTP 405)"),
    ],
)
def test_what_every_instance_would_get_ends_the_work(status: int, told: str, written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm.zip")])
    with service([(status, b"")] * 9) as (url, requests):
        with pytest.raises(TransferError) as error:
            send(StowTarget(url), found.instances, retries=NOW)
        assert len(requests) == 1
    assert told in str(error.value)
    assert not error.value.later
    with service([(200, STORED), (status, b"")]) as (url, _):
        outcomes = send(StowTarget(url), found.instances, retries=NOW)
    assert states(outcomes) == ["stored", "unsent", "unsent"]
    assert told in outcomes[2].reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirections_are_refused(status: int, written: Callable[..., Path]) -> None:
    found = collect([written("a.dcm")])
    with service([]) as (elsewhere, others), service([(status, b"", {"Location": elsewhere})] * 2) as (url, _):
        with pytest.raises(TransferError, match="redirects to http://127.0.0.1:.*images are sent only where you say"):
            send(StowTarget(url), found.instances, retries=NOW)
        with pytest.raises(TransferError, match="redirects to"):
            echo(StowTarget(url))
        assert others == []


def test_credentials_go_to_this_service_alone_and_are_shown_nowhere(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    found = collect([written("a.dcm")])
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password other\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    basic, bearer = Credentials("us", "geheim-wört"), Credentials(token="geheim-token")
    headers = []
    for credentials in (Credentials(), basic, bearer):
        with service([]) as (url, requests):
            target = StowTarget(url, credentials)
            send(target, found.instances)
            assert "geheim" not in repr(target) + str(target)
            headers.append(requests[0][2].get("Authorization"))
    assert headers[0] is None
    assert headers[1] == "Basic dXM6Z2VoZWltLXfDtnJ0"  # UTF-8
    assert headers[2] == "Bearer geheim-token"
    assert "geheim" not in caplog.text
    with service([(401, b"")]) as (url, _), pytest.raises(TransferError, match="refuses these credentials") as error:
        send(StowTarget(url, basic), found.instances)
    assert "geheim" not in str(error.value)


def test_credentials_are_not_sent_unencrypted_to_another_machine() -> None:
    for credentials in (Credentials("us", "geheim"), Credentials(token="geheim")):
        for host in ("pacs.example.org", "10.0.0.1", "localhost.example.org"):
            with pytest.raises(ConfigError, match="expected https for a service that needs credentials") as error:
                StowTarget(f"http://{host}/web", credentials)
            assert "geheim" not in str(error.value)
            StowTarget(f"http://{host}/web", credentials, allow_plain_credentials=True)
            StowTarget(f"https://{host}/web", credentials)
        for host in ("localhost", "127.0.0.1", "[::1]"):
            StowTarget(f"http://{host}/web", credentials)


def test_an_echo_searches_one_study() -> None:
    with service([(200, []), (204, b""), (405, b""), (500, b"")]) as (url, requests):
        target = StowTarget(url)
        assert echo(target) == echo(target) == f"{url} answers"
        assert "which may still store" in echo(target)
        with pytest.raises(TransferError, match="the service failed, see its log"):
            echo(target)
    assert (requests[0][0], requests[0][1]) == ("GET", "/web/studies?limit=1")


def test_a_service_that_says_nothing(written: Callable[..., Path]) -> None:
    import socket

    found = collect([written("a.dcm")])
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = StowTarget(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.3)
        with pytest.raises(TransferError, match="no answer in time: check host, port and firewall") as error:
            send(target, found.instances, retries=Retries(0))
    assert error.value.later
    with pytest.raises(TransferError, match="connection refused: nobody listens there"):
        send(target, found.instances, retries=Retries(0))
    with pytest.raises(TransferError, match="its host name is not known") as error:
        send(StowTarget("https://nobody.invalid/web"), found.instances, retries=NOW)
    assert not error.value.later
