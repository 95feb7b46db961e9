"""Results go to registered targets after their jobs, once, whatever dies in between."""

from __future__ import annotations

import io
import json
import logging
import signal
import socket
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from mri_recon.errors import ConfigError
from mri_recon_service.http import logs
from mri_recon_service.http.keys import add_key
from mri_recon_service.job import document
from mri_recon_service.settings import Settings
from mri_recon_service.storage.store import Bounds, DeliveriesFull, JobStore
from mri_recon_service.targets import Targets, read_targets
from tests.support.orthanc import needs_orthanc, orthanc
from tests.support.pacs import entity, service
from tests.support.service import ServerProcess, new_job, until

pydicom = pytest.importorskip("pydicom", reason="the extra 'pacs' is not installed")
pytest.importorskip("pynetdicom", reason="the extra 'pacs' is not installed")
pytest.importorskip("dicomweb_client", reason="the extra 'pacs' is not installed")

SECONDARY = "1.2.840.10008.5.1.4.1.1.7"  # an .npy has no place
LOST = {"code": "worker-lost", "detail": "died", "extensions": {}}
FIELDS = {"method": "zero-filled", "acceleration": "3"}


def registered(folder: Path, **tables: str) -> Settings:
    """Settings with a file of targets: the text of each table by its name."""
    path = folder / "targets.toml"
    path.write_text("".join(f"[{name}]\n{text}\n" for name, text in tables.items()))
    return Settings(targets_file=path, data_dir=folder / "data", delivery_retry_seconds=0.05)


def post(client: httpx.Client, content: bytes, to: str = "/v1/reconstructions", **fields: str) -> httpx.Response:
    return client.post(to, files={"file": ("a.npy", content)}, data={**FIELDS, **fields})


def ended(client: httpx.Client, answer: httpx.Response) -> dict[str, Any]:
    """Wait for the end of the delivery of an accepted job, and return its document."""
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = {}

    def reached() -> bool:
        found.update(client.get(answer.headers["location"]).json())
        return found["delivery"]["state"] in ("delivered", "failed", "cancelled")

    until(reached)
    return found


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def scan(npy: Callable[[Any], bytes], kspace: Callable[..., Any]) -> bytes:
    return npy(kspace(3, 2, 25, 36))


def test_c_store_after_the_job(serve: Any, scan: bytes, tmp_path: Path) -> None:
    with entity([], classes=(SECONDARY,)) as (target, stored):
        settings = registered(tmp_path, archive=f'dicom = "{target}"')
        with serve(settings) as client:
            answer = post(client, scan, deliver="archive")
            assert answer.json()["delivery"]["target"] == "archive"
            found = ended(client, answer)
            assert found["status"] == "succeeded"
            delivery = found["delivery"]
            assert (delivery["state"], delivery["attempts"], delivery["reason"]) == ("delivered", 1, "")
            assert (delivery["stored"], delivery["instances"], delivery["next_attempt"]) == (3, 3, None)
            assert delivery["finished"] >= found["finished"]
            result = client.get(found["links"]["result"], headers={"Accept": "application/zip"})
            metrics = client.get("/metrics").text
    with zipfile.ZipFile(io.BytesIO(result.content)) as archive:
        files = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    assert [data.PixelData for data in files] == [data.PixelData for data in stored]
    assert all("not for diagnosis" in data.ImageComments for data in stored)
    assert 'mri_recon_deliveries_total{state="delivered"} 1.0' in metrics
    assert 'mri_recon_queue_length{kind="deliveries"} 0.0' in metrics


def test_stow_with_credentials_that_are_shown_nowhere(
    serve: Any, scan: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("MRI_RECON_TARGET_MY_ARCHIVE_TOKEN", "geheim")
    with service([]) as (url, requests):
        settings = registered(tmp_path, **{"my-archive": f'stow = "{url}"'})
        with serve(settings) as client:
            found = ended(client, post(client, scan, deliver="my-archive"))
            events = client.get(found["links"]["events"]).text
    assert found["delivery"]["state"] == "delivered"
    assert [headers["Authorization"] for _, _, headers, _ in requests] == ["Bearer geheim"] * 3
    for text in (str(found), events, caplog.text, (tmp_path / "data" / "jobs.sqlite").read_bytes().decode("latin-1")):
        assert "geheim" not in text
    assert "127.0.0.1" not in str(found) + events


def test_the_log_has_the_outcome_and_nothing_of_the_libraries(serve: Any, scan: bytes, tmp_path: Path) -> None:
    stream = io.StringIO()
    names = ("pynetdicom", "dicomweb_client", "pydicom", "urllib3")
    levels = {name: logging.getLogger(name).level for name in names}
    with entity([0, 0xC000], classes=(SECONDARY,)) as (target, _), service([]) as (url, _):
        settings = registered(
            tmp_path, one=f'dicom = "{target}"', two=f'stow = "{url}"', three='dicom = "A@127.0.0.1:1"'
        )
        settings = settings.model_copy(update={"log_level": "debug", "max_delivery_attempts": 2})
        logs.configure(settings, stream)
        try:
            with serve(settings) as client:
                jobs = [ended(client, post(client, scan, deliver=name))["id"] for name in ("one", "two", "three")]
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [line["message"] for line in lines if line["message"].startswith("the delivery of")]
    assert told == [
        f"the delivery of job {jobs[0]} to one: 2 of 3 stored, failed, attempt 1",
        f"the delivery of job {jobs[1]} to two: 3 of 3 stored, delivered, attempt 1",
        f"the delivery of job {jobs[2]} to three: 0 of 0 stored, waiting, attempt 1",
        f"the delivery of job {jobs[2]} to three: 0 of 0 stored, failed, attempt 2",
    ]
    assert not {line["logger"].partition(".")[0] for line in lines} & set(names)
    ours = [line["message"] for line in lines if line["logger"].startswith("mri_recon")]
    assert "127.0.0.1" not in "".join(ours)


@needs_orthanc
def test_orthanc(serve: Any, scan: bytes, tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc") as pacs:
        settings = registered(tmp_path, web=f'stow = "{pacs.web}"', entity=f'dicom = "{pacs.entity}"')
        with serve(settings) as client:
            for name in ("web", "entity"):
                assert ended(client, post(client, scan, deliver=name))["delivery"]["state"] == "delivered"
        assert len(pacs.instances()) == 6


def test_a_target_that_is_down_at_first(serve: Any, scan: bytes, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
    settings = registered(tmp_path, archive=f'dicom = "PACS@127.0.0.1:{port}"')
    with serve(settings.model_copy(update={"max_delivery_attempts": 10_000})) as client:
        answer = post(client, scan, deliver="archive")
        here = answer.headers["location"]
        until(lambda: client.get(here).json()["delivery"]["attempts"] >= 2)
        waiting = client.get(here).json()
        assert waiting["status"] == "succeeded"
        assert waiting["delivery"]["reason"].startswith("archive: connection refused")
        with entity([0, 0xA700], classes=(SECONDARY,), port=port) as (_, stored):
            found = ended(client, answer)
        assert (found["delivery"]["state"], found["delivery"]["stored"]) == ("delivered", 3)
        assert len(stored) == 5  # the first and the third one twice, under the same identifiers
        assert len({data.SOPInstanceUID for data in stored}) == 3


def test_attempts_are_bounded(serve: Any, scan: bytes, tmp_path: Path) -> None:
    with entity([0xA700] * 99, classes=(SECONDARY,)) as (target, stored):
        settings = registered(tmp_path, archive=f'dicom = "{target}"')
        with serve(settings.model_copy(update={"max_delivery_attempts": 3})) as client:
            found = ended(client, post(client, scan, deliver="archive"))
            metrics = client.get("/metrics").text
    assert (found["status"], found["delivery"]["state"], found["delivery"]["attempts"]) == ("succeeded", "failed", 3)
    assert "(0xA700)" in found["delivery"]["reason"]
    assert stored == []
    assert 'mri_recon_deliveries_total{state="failed"} 1.0' in metrics


def test_a_refused_instance_does_not_keep_the_others_back(serve: Any, scan: bytes, tmp_path: Path) -> None:
    """The first is refused for good; the second is stored in the second attempt."""
    with entity([0xC000, 0xA700, 0, 0xC000, 0, 0], classes=(SECONDARY,)) as (target, stored):
        settings = registered(tmp_path, archive=f'dicom = "{target}"')
        with serve(settings) as client:
            delivery = ended(client, post(client, scan, deliver="archive"))["delivery"]
    assert (delivery["state"], delivery["attempts"], delivery["stored"]) == ("failed", 2, 2)
    assert delivery["reason"] == "Cannot Understand (0xC000)"
    assert len({data.SOPInstanceUID for data in stored}) == 2


def test_certificates_that_went_bad_are_told_to_the_operator_alone(
    serve: Any, scan: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    table = f'dicom = "A@127.0.0.1:1"\ntls = true\nca_file = "{tmp_path / "ca.pem"}"'
    with serve(registered(tmp_path, archive=table)) as client:
        delivery = ended(client, post(client, scan, deliver="archive"))["delivery"]
    assert delivery["reason"] == "the target is not set up rightly: ask the operator"
    assert "target archive: expected certificates" in caplog.text


@pytest.mark.parametrize(
    ("answers", "called", "stored", "reason"),
    [
        ([0, 0xC000, 0], "PACS", 2, "Cannot Understand (0xC000)"),
        ([], "OTHER", 0, "archive rejected the association, it is not called 'OTHER'"),
    ],
)
def test_what_will_not_succeed_is_not_repeated(
    answers: list[int], called: str, stored: int, reason: str, serve: Any, scan: bytes, tmp_path: Path
) -> None:
    with entity(answers, classes=(SECONDARY,)) as (target, _):
        settings = registered(tmp_path, archive=f'dicom = "{replace(target, aet=called)}"')
        with serve(settings) as client:
            delivery = ended(client, post(client, scan, deliver="archive"))["delivery"]
    assert (delivery["state"], delivery["attempts"], delivery["stored"]) == ("failed", 1, stored)
    assert delivery["reason"].startswith(reason)
    assert "127.0.0.1" not in str(delivery)


def test_names_that_are_not_registered(
    serve: Any, scan: bytes, problem: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    with serve(Settings(data_dir=tmp_path / "other")) as client:
        refused = problem(post(client, scan, deliver="archive"), 422, "unknown-target")
        assert refused["valid"] == []
        assert "for no target is registered, got 'archive': leave it out" in refused["detail"]
    with serve(registered(tmp_path, one='dicom = "A@127.0.0.1:1"', two='dicom = "B@127.0.0.1:1"')) as client:
        for name in ("archive", "http://127.0.0.1:1/web", "A@127.0.0.1:1", "ONE", "one two", "\x1b[31m"):
            for address in ("/v1/reconstructions", "/v1/validate"):
                refused = problem(post(client, scan, address, deliver=name), 422, "unknown-target")
                assert refused["valid"] == ["one", "two"]
                assert "expected one of the targets one, two, got" in refused["detail"]
                assert "\x1b" not in refused["detail"]
        assert problem(post(client, scan, deliver="x" * 65), 422, "invalid-request")
        valid = post(client, scan, "/v1/validate", deliver="one").json()
        assert (valid["accepted"], valid["answered"]) == (True, "as-job")
        compared = client.post(
            "/v1/compare",
            files={"file": ("a.npy", scan)},
            data={"methods": "zero-filled", "acceleration": "3", "deliver": "one"},
        )
        assert problem(compared, 422, "unknown-option")


def test_targets_of_some_keys(serve: Any, scan: bytes, problem: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    keys = {name: add_key(tmp_path / "keys.json", name) for name in ("ward", "lab")}
    with entity([], classes=(SECONDARY,)) as (target, stored):
        settings = registered(
            tmp_path,
            everyone=f'dicom = "{target}"',
            ward=f'dicom = "{target}"\nclients = ["ward"]',
            nobody=f'dicom = "{target}"\nclients = []',
        ).model_copy(update={"require_keys": True, "keys_file": tmp_path / "keys.json"})
        with serve(settings) as client:
            client.headers["X-API-Key"] = keys["lab"]
            refused = problem(post(client, scan, deliver="ward"), 422, "unknown-target")
            assert refused["valid"] == ["everyone"]
            assert "nobody" not in str(refused)
            client.headers["X-API-Key"] = keys["ward"]
            assert problem(post(client, scan, deliver="nobody"), 422, "unknown-target")["valid"] == ["everyone", "ward"]
            assert ended(client, post(client, scan, deliver="ward"))["delivery"]["state"] == "delivered"
    assert len(stored) == 3


def test_jobs_that_do_not_succeed_deliver_nothing(serve: Any, scan: bytes, tmp_path: Path) -> None:
    settings = registered(tmp_path, archive='dicom = "A@127.0.0.1:1"')
    with serve(settings) as client:
        found = ended(client, post(client, scan, deliver="archive", deadline_seconds="0.000001"))
        assert found["status"] == "failed"
        assert (found["delivery"]["state"], found["delivery"]["attempts"]) == ("cancelled", 0)
        assert client.app.state.engine.store.claim_delivery("a", time.time() + 1e6) is None  # type: ignore[attr-defined]


def test_a_repeated_request_is_delivered_once(serve: Any, scan: bytes, tmp_path: Path) -> None:
    with entity([], classes=(SECONDARY,)) as (target, stored):
        settings = registered(tmp_path, archive=f'dicom = "{target}"')
        with serve(settings) as client:
            client.headers["Idempotency-Key"] = "k"
            first = post(client, scan, deliver="archive")
            ended(client, first)
            again = post(client, scan, deliver="archive")
            assert again.headers["location"] == first.headers["location"]
            assert again.json()["delivery"]["state"] == "delivered"
            assert post(client, scan).json()["code"] == "idempotency-mismatch"
    assert len(stored) == 3


def test_deleting_a_job_ends_its_delivery(serve: Any, scan: bytes, tmp_path: Path) -> None:
    with serve(registered(tmp_path, archive='dicom = "A@127.0.0.1:1"')) as client:
        here = post(client, scan, deliver="archive").headers["location"]
        until(lambda: client.get(here).json()["delivery"]["attempts"] > 0)
        assert client.delete(here).status_code == 204
        assert client.get(here).status_code == 404
        until(lambda: client.app.state.engine.store.waiting_deliveries() == 0)  # type: ignore[attr-defined]


def test_no_more_deliveries_wait_than_allowed(
    serve: Any, scan: bytes, problem: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    settings = registered(tmp_path, archive='dicom = "A@127.0.0.1:1"')
    with serve(settings.model_copy(update={"max_deliveries": 1, "delivery_retry_seconds": 1000.0})) as client:
        first = post(client, scan, deliver="archive")
        assert first.status_code == 202
        refused = problem(post(client, scan, deliver="archive"), 429, "busy")
        assert refused["detail"].startswith("1 deliveries wait, as many as this service takes")
        assert post(client, scan).status_code == 200
        assert len(list((tmp_path / "data" / "jobs").iterdir())) == 1


def test_a_target_that_is_no_longer_registered(serve: Any, scan: bytes, tmp_path: Path) -> None:
    settings = registered(tmp_path, archive='dicom = "A@127.0.0.1:1"')
    with serve(settings.model_copy(update={"delivery_retry_seconds": 1.0})) as client:
        answer = post(client, scan, deliver="archive")
        until(lambda: client.get(answer.headers["location"]).json()["delivery"]["attempts"] > 0)
    with serve(registered(tmp_path, other='dicom = "A@127.0.0.1:1"')) as client:
        found = ended(client, answer)
    assert found["delivery"]["reason"] == "the target is not registered any more: ask the operator"


def test_a_service_that_stops_while_it_sends(serve: Any, scan: bytes, tmp_path: Path) -> None:
    """The instance in hand is finished; the delivery waits, the attempt does not count; the next start completes it."""
    asked, go_on = threading.Event(), threading.Event()

    def slow(event: Any) -> int:
        asked.set()
        go_on.wait(60)
        return 0

    with entity([slow], classes=(SECONDARY,)) as (target, stored):
        settings = registered(tmp_path, archive=f'dicom = "{target}"')
        with serve(settings) as client:
            answer = post(client, scan, deliver="archive")
            assert asked.wait(60)
            assert client.get(answer.headers["location"]).json()["delivery"]["state"] == "sending"
            threading.Timer(0.5, go_on.set).start()
        with serve(settings) as client:
            found = ended(client, answer)
    assert (found["delivery"]["state"], found["delivery"]["attempts"]) == ("delivered", 1)
    assert len({data.SOPInstanceUID for data in stored}) == 3


@pytest.mark.slow  # starts two servers
def test_killed_while_it_sends(scan: bytes, tmp_path: Path) -> None:
    """kill -9 between two instances: after a restart the target has every instance, under the same identifiers."""
    asked, go_on = threading.Event(), threading.Event()

    def never(event: Any) -> int:
        asked.set()
        go_on.wait(600)
        return 0xA700

    with entity([0, never], classes=(SECONDARY,)) as (target, stored):
        settings = registered(tmp_path, archive=f'dicom = "{target}"')
        environment = {"MRI_RECON_TARGETS_FILE": str(settings.targets_file), "MRI_RECON_DELIVERY_RETRY_SECONDS": "0.1"}
        server = ServerProcess(tmp_path / "data", **environment)
        answer = post(server.client, scan, deliver="archive")
        assert asked.wait(600)
        server.kill(signal.SIGKILL)
        go_on.set()
        assert len(stored) == 1
        server = ServerProcess(tmp_path / "data", **environment)
        try:
            found = ended(server.client, answer)
        finally:
            server.kill(signal.SIGTERM)
    assert (found["delivery"]["state"], found["delivery"]["attempts"]) == ("delivered", 2)
    assert len(stored) == 4
    assert len({data.SOPInstanceUID for data in stored}) == 3


# The store.


def _succeeded(store: JobStore, name: str, **more: Any) -> None:
    store.add(new_job(name, **more), Bounds(9, 9))
    store.claim("a", most=1)
    store.finish(name, "a", "succeeded", problem=None, expires=time.time() + 99)


def test_a_delivery_is_claimed_once_after_its_job(store: JobStore, open_store: Callable[[], JobStore]) -> None:
    other = open_store()
    store.add(new_job("j", deliver="t"), Bounds(9))
    assert store.claim_delivery("a", time.time()) is None
    store.claim("a", most=1)
    assert store.claim_delivery("a", time.time()) is None
    store.finish("j", "a", "succeeded", problem=None, expires=9)
    claimed = [other.claim_delivery("b", time.time()), store.claim_delivery("a", time.time())]
    assert claimed[1] is None
    assert claimed[0] is not None
    assert claimed[0].delivery is not None
    assert (claimed[0].delivery.state, claimed[0].delivery.attempts) == ("sending", 1)
    store.end_delivery("j", "a", "delivered", stored=1, instances=1, reason="", due=None)  # not its owner
    assert store.waiting_deliveries() == 1
    other.end_delivery("j", "b", "waiting", stored=1, instances=3, reason="busy", due=time.time() + 50)
    assert store.claim_delivery("a", time.time()) is None
    job = store.claim_delivery("a", time.time() + 60)
    assert job is not None
    assert document(job)["delivery"]["reason"] == "busy"
    store.release_delivery("j", "a")
    job = store.claim_delivery("a", time.time())
    assert job is not None
    assert job.delivery is not None
    assert job.delivery.attempts == 2
    store.end_delivery("j", "a", "delivered", stored=3, instances=3, reason="", due=None)
    assert store.waiting_deliveries() == 0


def test_deliveries_of_the_dead_wait_again(store: JobStore) -> None:
    _succeeded(store, "j", deliver="t")
    assert store.claim_delivery("b", time.time()) is not None
    assert store.recover(lambda owner: owner == "b", most_attempts=2, lost=LOST, expires=9) == []
    assert store.claim_delivery("c", time.time()) is None
    assert store.recover(lambda owner: False, most_attempts=2, lost=LOST, expires=9) == ["b"]
    job = store.claim_delivery("c", time.time())
    assert job is not None
    assert job.delivery is not None
    assert job.delivery.attempts == 2


def test_the_longest_due_goes_first(store: JobStore) -> None:
    for name in ("first", "second"):
        _succeeded(store, name, deliver="t")
    job = store.claim_delivery("a", time.time())
    assert job is not None
    assert job.id == "first"
    store.end_delivery("first", "a", "waiting", stored=0, instances=1, reason="", due=time.time() + 1)
    job = store.claim_delivery("a", time.time() + 2)
    assert job is not None
    assert job.id == "second"


def test_jobs_without_delivery_and_bounds(store: JobStore) -> None:
    store.add(new_job("plain"), Bounds(9, 1))
    assert store.get("plain").delivery is None  # type: ignore[union-attr]
    store.add(new_job("one", deliver="t"), Bounds(9, 1))
    with pytest.raises(DeliveriesFull):
        store.add(new_job("two", deliver="t"), Bounds(9, 1))
    assert store.get("two") is None
    store.cancel("one", expires=9)
    store.add(new_job("two", deliver="t"), Bounds(9, 1))
    assert store.delete("one")
    assert store.waiting_deliveries() == 1


# The file of targets.


def test_the_file_of_targets(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(
        '[archive]\nstow = "https://pacs.example.org/web/"\n'
        '[node-1]\ndicom = "PACS@[::1]:104"\naet = "US"\ntimeout = 5\n'
    )
    environment = {"MRI_RECON_TARGET_ARCHIVE_USER": "us", "MRI_RECON_TARGET_ARCHIVE_PASSWORD": "geheim"}
    found = read_targets(path, environment)
    assert found.allowed("") == ["archive", "node-1"]
    archive, node = found.find("archive"), found.find("node-1")
    assert (str(archive), archive.url) == ("archive", "https://pacs.example.org/web")  # type: ignore[union-attr]
    assert archive.credentials.password == "geheim"  # type: ignore[union-attr]
    assert (str(node), node.calling_aet, node.timeout) == ("node-1", "US", 5)  # type: ignore[union-attr]
    assert found.find("other") is None
    assert "geheim" not in repr(found)
    assert read_targets(None, {}) == Targets()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a", "expected TOML, got other text"),
        ("a = 1", r"expected a table \[a\], got a single value"),
        ('["a b"]\ndicom = "A@h:1"', "expected names of letters, digits, '_' and '-', got 'a b'"),
        ("[a]", "target a: expected stow or dicom, got none"),
        ('[a]\nstow = "https://h"\ndicom = "A@h:1"', "target a: expected stow or dicom, got both"),
        ('[a]\nstow = "https://h"\npassword = "geheim"', "target a, password: .*; the keys are stow, dicom, aet"),
        ('[a]\nstow = "https://us:geheim@h"', "leave the user and the password out of it"),
        ('[a]\nstow = "https://h"\naet = "A"', "expected aet and tls with dicom, got them with stow"),
        ('[a]\ndicom = "h:1"', "target a: expected AET@HOST:PORT"),
        ('[a]\ndicom = "A@h:1"\ntls = "perhaps"', "target a, tls: "),
        ('[a]\ndicom = "A@h:1"\ntimeout = 0', "target a, timeout: "),
        ('[a]\ndicom = "A@h:1"\ntls = true\nca_file = "/nowhere"', "expected a CA file in PEM, found no file"),
        ('[a]\ndicom = "A@h:1"\nclients = "ward"', "target a, clients: "),
    ],
)
def test_wrong_files_of_targets(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as error:
        read_targets(path, {})
    assert "geheim" not in str(error.value)
    assert str(error.value).startswith(str(path))


def test_files_of_targets_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the targets cannot be read .*: let the service read it"):
        read_targets(tmp_path / "nothing", {})
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="expected TOML, got other text"):
        read_targets(tmp_path / "a.toml", {})
    (tmp_path / "a.toml").write_text('[a]\nstow = "http://pacs.example.org"')
    with pytest.raises(ConfigError, match="target a: expected https for a service that needs credentials, got a: "):
        read_targets(tmp_path / "a.toml", {"MRI_RECON_TARGET_A_TOKEN": "geheim"})
    with pytest.raises(ConfigError, match="expected MRI_RECON_TARGET_A_PASSWORD with MRI_RECON_TARGET_A_USER"):
        read_targets(tmp_path / "a.toml", {"MRI_RECON_TARGET_A_USER": "us"})


def test_a_wrong_file_ends_serve_with_one_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from mri_recon.cli import build_app

    environment = {"MRI_RECON_TARGETS_FILE": str(tmp_path / "nothing"), "MRI_RECON_DATA_DIR": str(tmp_path)}
    done = CliRunner().invoke(build_app(), ["serve", "--port", "0"], env=environment)
    assert done.exit_code == 2
    assert done.stderr.startswith("mri-recon: error: ")
    assert "the targets cannot be read" in done.stderr
    assert done.stderr.count("\n") == 1
