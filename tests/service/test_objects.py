"""The files of jobs in a bucket: the same behaviour as in a folder, private, and gone when they are deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from mri_recon.errors import ConfigError
from mri_recon_service.answers.rendering import HDF5, NPZ
from mri_recon_service.job import Job
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.storage.file_store import FileStore
from mri_recon_service.storage.files import JobFiles
from tests.support.s3 import CREDENTIALS, S3Server, skip_without_s3
from tests.support.service import until_status

skip_without_s3()

from mri_recon_service.storage.objects import CONTENT_TYPES, ObjectFiles  # noqa: E402

JOB = Job(id="j" * 32, kind="reconstruction", client="", request={}, created=0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    one = S3Server()
    yield one
    one.stop()


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return server.bucket()


@pytest.fixture
def client(server: S3Server) -> Iterator[Any]:
    with closing(server.client()) as one:
        yield one


@pytest.fixture
def objects(server: S3Server, bucket: str, tmp_path: Path) -> Iterator[ObjectFiles]:
    with closing(_opened(server, bucket, tmp_path)) as one:
        yield one


def _opened(server: S3Server, bucket: str, folder: Path, seconds: float = 60, prefix: str = "/a/b/") -> ObjectFiles:
    return ObjectFiles(
        f"s3://{bucket}{prefix}",
        endpoint=server.address,
        public_endpoint=None,
        address_seconds=seconds,
        folder=folder,
        most_bytes=None,
    )


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> FileStore:
    if request.param == "folder":
        return JobFiles(tmp_path / "jobs")
    found: ObjectFiles = request.getfixturevalue("objects")
    return found


def _read(files: FileStore, job: Job, name: str) -> bytes:
    with files.result(job, name) as path:
        assert path.name == name
        return path.read_bytes()


def _taken(files: FileStore, tmp_path: Path, job: Job = JOB, content: bytes = b"scan") -> None:
    (tmp_path / "scan.h5").write_bytes(content)
    assert files.take(job.id, {"file": tmp_path / "scan.h5"}) == {"file": "scan.h5"}


@pytest.mark.parametrize("run", ["", "r1"])
def test_files_are_kept_and_deleted(files: FileStore, tmp_path: Path, run: str) -> None:
    job, other = replace(JOB, run=run), replace(JOB, id=JOB.id + "0", run=run)  # a name that begins with another's
    _taken(files, tmp_path)
    _taken(files, tmp_path, other)
    with files.upload(job.id, "scan.h5") as path:
        assert path.read_bytes() == b"scan"
        file = path.open("rb")
    for name, content in (("result.npz", b"npz"), ("part-0.npz", b"part"), ("result.npz", b"whole")):
        files.write(job, name, content)
    assert _read(files, job, "result.npz") == b"whole"
    assert (files.size(job.id), files.total()) == (4 + 5 + 4, 4 + 5 + 4 + 4)
    files.remove_all_but_result(job, uploads=["scan.h5"], parts=["part-0.npz"])
    for missing in ("part-0.npz", "other"):
        with pytest.raises(FileNotFoundError), files.result(job, missing):
            pass
    with pytest.raises(FileNotFoundError), files.upload(job.id, "scan.h5"):
        pass
    with file:
        assert file.read() == b"scan"  # who reads, reads on
    assert (files.size(job.id), files.holds(job.id)) == (5, True)
    files.remove(job.id)
    files.remove(job.id)
    assert (files.size(job.id), files.holds(job.id), files.holds(other.id)) == (0, False, True)
    assert files.works()


def test_a_run_that_lost_its_job_changes_nothing(files: FileStore, tmp_path: Path) -> None:
    _taken(files, tmp_path)
    lost, winner = replace(JOB, run="r1"), replace(JOB, run="r2")
    files.write(lost, "result.npz", b"lost")
    files.write(winner, "result.npz", b"won")
    files.remove_run(lost)
    assert _read(files, winner, "result.npz") == b"won"
    files.write(lost, "result.npz", b"lost")
    files.remove_all_but_result(winner, uploads=["scan.h5"], parts=[])
    assert (_read(files, winner, "result.npz"), files.size(JOB.id)) == (b"won", 3)


def test_a_large_file_goes_in_parts(objects: ObjectFiles, tmp_path: Path) -> None:
    content = bytes(range(256)) * (12 << 12)  # of 12 MiB, in parts of 5
    _taken(objects, tmp_path, content=content)
    with objects.upload(JOB.id, "scan.h5") as path:
        assert path.read_bytes() == content


def test_nothing_is_left_on_this_machine(objects: ObjectFiles, tmp_path: Path) -> None:
    objects.write(JOB, "result.npz", b"x")
    with objects.result(JOB, "result.npz") as path:
        assert path.stat().st_mode & 0o77 == 0 or path.parent.stat().st_mode & 0o77 == 0
    assert not path.exists()
    objects.close()
    assert list(tmp_path.iterdir()) == []


def test_objects_are_private_and_leave_no_versions(
    objects: ObjectFiles, client: Any, bucket: str, tmp_path: Path
) -> None:
    _taken(objects, tmp_path)
    objects.write(JOB, "result.npz", b"x")
    keys = [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert sorted(keys) == [f"a/b/{JOB.id}/result.npz", f"a/b/{JOB.id}/scan.h5"]
    for key in keys:
        grants = client.get_object_acl(Bucket=bucket, Key=key)["Grants"]
        assert [one["Grantee"]["Type"] for one in grants] == ["CanonicalUser"]
    objects.remove(JOB.id)
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    assert "Versions" not in client.list_object_versions(Bucket=bucket)


def test_old_jobs_are_found(objects: ObjectFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _taken(objects, tmp_path)
    assert objects.old() == []
    later = datetime.now(UTC) + timedelta(hours=1, seconds=5)
    monkeypatch.setattr("mri_recon_service.storage.objects.time.time", later.timestamp)
    assert objects.old() == [JOB.id]


def test_addresses_work_for_a_while(server: S3Server, objects: ObjectFiles, bucket: str, tmp_path: Path) -> None:
    assert {CONTENT_TYPES[".npz"], CONTENT_TYPES[".h5"]} == {NPZ, HDF5}
    job = replace(JOB, run="r")
    objects.write(job, "result.h5", b"0123456789")
    address = objects.address(job, "result.h5")
    assert address is not None
    assert "X-Amz-Expires=60" in address
    assert "geheim" not in address
    answer = httpx.get(address, headers={"Range": "bytes=2-4"}, trust_env=False)
    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["content-type"] == HDF5
    assert answer.headers["content-disposition"] == 'attachment; filename="result.h5"'
    with pytest.raises(FileNotFoundError):
        objects.address(job, "other")
    with closing(_opened(server, bucket, tmp_path, seconds=0)) as without:
        assert without.address(job, "result.h5") is None


def test_a_bucket_that_cannot_be_used(
    server: S3Server, bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, objects: ObjectFiles
) -> None:
    with pytest.raises(ConfigError, match="MRI_RECON_BUCKET_ENDPOINT"):
        _opened(server, "missing", tmp_path)
    with pytest.raises(ConfigError, match="expected a bucket like s3://NAME/PREFIX"):
        ObjectFiles("bucket", endpoint=None, public_endpoint=None, address_seconds=0, folder=tmp_path, most_bytes=None)
    own = S3Server()
    with closing(own.client()) as client:
        client.create_bucket(Bucket="own")
    with closing(_opened(own, "own", tmp_path)) as away:
        own.stop()
        away._objects = away._quick
        assert not away.works()
        with pytest.raises(Problem) as caught:
            away.write(JOB, "result.npz", b"x")
        assert caught.value.code == "storage-full"
        with pytest.raises(Problem) as caught, away.result(JOB, "result.npz"):
            pass
        assert caught.value.code == "busy"
        away.remove(JOB.id)  # the log says so
    assert "the bucket cannot be read" in caplog.text
    assert "geheim" not in caplog.text


def test_a_service_with_a_bucket(
    serve: Any,
    npy: Callable[[Any], bytes],
    kspace: Callable[..., Any],
    server: S3Server,
    bucket: str,
    client: Any,
    tmp_path: Path,
) -> None:
    settings = Settings(
        data_dir=tmp_path, bucket=f"s3://{bucket}", bucket_endpoint=server.address, bucket_address_seconds=60
    )
    with serve(settings) as service:
        here = service.post(
            "/v1/compare",
            files={"file": ("a.npy", npy(kspace(1, 1, 25, 36)))},
            data={"methods": "zero-filled", "acceleration": "3"},
            headers={"Prefer": "respond-async"},
        ).headers["location"]
        until_status(service, here, "succeeded")
        for path, kind in ((f"{here}/result", NPZ), (f"{here}/methods/zero-filled", HDF5)):
            sent = service.get(path, headers={"Accept": kind, "Prefer": "return=representation"})
            assert (sent.status_code, sent.headers["content-type"]) == (200, kind)
            page = service.get(path, headers={"Accept": kind, "Sec-Fetch-Mode": "cors"})
            assert (page.status_code, page.content) == (200, sent.content)
            elsewhere = service.get(path, headers={"Accept": kind})
            assert (elsewhere.status_code, elsewhere.content) == (303, b"")
            assert elsewhere.headers["cache-control"] == "no-store"
            assert httpx.get(elsewhere.headers["location"], trust_env=False).content == sent.content
        assert service.get(f"{here}/result", headers={"Accept": "application/json"}).status_code == 200
        assert "Contents" in client.list_objects_v2(Bucket=bucket)
        assert service.delete(here).status_code == 204
        assert "Contents" not in client.list_objects_v2(Bucket=bucket)
    assert not (tmp_path / "jobs").exists()
