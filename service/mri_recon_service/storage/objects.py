"""Keep the uploads and results of jobs in a bucket of S3, which processes of several machines share.

An object is whole or not there. Its key is JOB/FILE, and JOB/RUN/FILE for what a run of the job wrote. The credentials
and the region come from the environment, as of every program for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_REGION, and what else obstore knows.
"""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from mri_recon.errors import ConfigError
from mri_recon_service.job import Job
from mri_recon_service.locked_folder import LockedFolder
from mri_recon_service.problems import Problem, storage_full

__all__ = ["CONTENT_TYPES", "ObjectFiles"]

log = logging.getLogger("mri_recon_service")

CONTENT_TYPES = {".npz": "application/x-npz", ".h5": "application/x-hdf5"}
"""Content types of results by their suffix, which clients get that fetch them from the bucket."""

_ERRORS = (BaseError, OSError)  # what is not there is a FileNotFoundError
_ORPHAN_SECONDS = 3600.0
_UNBOUNDED = 1 << 62
_BLOCK = 1 << 20
_RETRY_AFTER = {"Retry-After": "10"}
_PROBE = "probe"
_NAMES_OF_FETCHED = "mri-recon-fetched-"


class ObjectFiles:
    """The files of jobs in a bucket, see `FileStore`.

    Args:
        bucket: `s3://BUCKET` or `s3://BUCKET/PREFIX`.
        endpoint: address of the S3 server. None: that of AWS, or of AWS_ENDPOINT_URL.
        public_endpoint: address of the server for clients, if it is another.
        address_seconds: time for which clients may fetch a result from the bucket. 0: they get it from the service.
        folder: folder for fetched files while they are read.
        most_bytes: bytes that all files may take. None: no bound.

    Raises:
        ConfigError: the bucket's name is wrong, or it cannot be used.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None,
        public_endpoint: str | None,
        address_seconds: float,
        folder: Path,
        most_bytes: int | None,
    ) -> None:
        parts = urlsplit(bucket)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            raise ConfigError(
                f"expected a bucket like s3://NAME/PREFIX in MRI_RECON_BUCKET, got {bucket[:80]!a}: correct it"
            )
        self._bucket = bucket.rstrip("/")
        self.most_bytes = _UNBOUNDED if most_bytes is None else most_bytes
        self._address_time = timedelta(seconds=address_seconds)
        self._objects = _open(parts.netloc, parts.path, endpoint)
        self._quick = _open(parts.netloc, parts.path, endpoint, quick=True)
        self._public = _open(parts.netloc, parts.path, public_endpoint or endpoint)
        try:
            self._fetched = LockedFolder(folder, _NAMES_OF_FETCHED)
        except OSError as error:
            raise ConfigError(
                f"expected a folder for fetched files, {folder} cannot be used ({error.strerror}): choose another by "
                "MRI_RECON_UPLOAD_DIR"
            ) from error
        try:
            self._try(self._quick)
        except _ERRORS as error:
            self.close()
            raise ConfigError(
                f"expected a bucket that can be written to, got {self._bucket} ({_kind(error)}): check its name, "
                "MRI_RECON_BUCKET_ENDPOINT and the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from error

    def close(self) -> None:
        """Delete the folder of fetched files. Those that are open can be read on."""
        self._fetched.remove()

    def place(self, job_id: str) -> str:
        """See `FileStore`."""
        return f"{self._bucket}/{job_id}"

    def holds(self, job_id: str) -> bool:
        """See `FileStore`."""
        return bool(self._listed(f"{job_id}/"))

    def size(self, job_id: str) -> int:
        """See `FileStore`."""
        return sum(one["size"] for one in self._listed(f"{job_id}/"))

    def total(self) -> int:
        """See `FileStore`."""
        return sum(one["size"] for one in self._listed(""))

    def free(self) -> int:
        """See `FileStore`."""
        return max(0, self.most_bytes - self.total())

    @contextmanager
    def upload(self, job_id: str, name: str) -> Iterator[Path]:
        """See `FileStore`."""
        with self._local(f"{job_id}/{name}") as path:
            yield path

    @contextmanager
    def result(self, job: Job, name: str) -> Iterator[Path]:
        """See `FileStore`."""
        with self._local(_key(job, name)) as path:
            yield path

    def address(self, job: Job, name: str) -> str | None:
        """See `FileStore`."""
        if not self._address_time:
            return None
        key = _key(job, name)
        with _reading():
            obstore.head(self._objects, key)
            signed: str = obstore.sign(self._public, "GET", key, self._address_time)
        return signed

    def take(self, job_id: str, files: Mapping[str, Path]) -> dict[str, str]:
        """See `FileStore`."""
        try:
            for path in files.values():
                obstore.put(self._objects, f"{job_id}/{path.name}", path)
        except _ERRORS as error:
            log.error("uploads cannot be kept in the bucket (%s)", _kind(error))
            self.remove(job_id)
            raise storage_full() from error
        return {name: path.name for name, path in files.items()}

    def write(self, job: Job, name: str, content: bytes) -> None:
        """See `FileStore`."""
        attributes: dict[str, str] = {"Cache-Control": "private, no-store"}
        media_type = CONTENT_TYPES.get(PurePosixPath(name).suffix)
        if media_type is not None:
            attributes |= {"Content-Type": media_type, "Content-Disposition": f'attachment; filename="{name}"'}
        try:
            obstore.put(self._objects, _key(job, name), content, attributes=attributes)
        except _ERRORS as error:
            log.error("a result of job %s cannot be kept in the bucket (%s)", job.id, _kind(error))
            raise storage_full() from error

    def remove_all_but_result(self, job: Job, *, uploads: Collection[str], parts: Collection[str]) -> None:
        """See `FileStore`."""
        of_run = _key(job, "")
        gone = {*(f"{job.id}/{name}" for name in uploads), *(of_run + name for name in parts)}

        def useless(key: str) -> bool:
            of_another_run = bool(job.run) and key.count("/") > 1 and not key.startswith(of_run)
            return key in gone or of_another_run

        self._delete(job.id, [key for key in self._keys(f"{job.id}/") if useless(key)])

    def remove_run(self, job: Job) -> None:
        """See `FileStore`."""
        self._delete(job.id, self._keys(_key(job, "")))

    def remove(self, job_id: str) -> None:
        """See `FileStore`."""
        self._delete(job_id, self._keys(f"{job_id}/"))

    def old(self) -> list[str]:
        """See `FileStore`."""
        newest: dict[str, float] = {}
        for one in self._listed(""):
            job_id, _, name = one["path"].partition("/")
            if name:
                newest[job_id] = max(newest.get(job_id, 0.0), one["last_modified"].timestamp())
        limit = time.time() - _ORPHAN_SECONDS
        return [job_id for job_id, changed in newest.items() if changed < limit]

    def works(self) -> bool:
        """See `FileStore`."""
        try:
            self._try(self._quick)
        except _ERRORS as error:
            log.error("the bucket cannot be used (%s)", _kind(error))
            return False
        return True

    @staticmethod
    def _try(objects: S3Store) -> None:
        key = f"{_PROBE}-{uuid.uuid4().hex}"
        obstore.put(objects, key, b"")
        obstore.delete(objects, key)

    @contextmanager
    def _local(self, key: str) -> Iterator[Path]:
        """Fetch an object into a file of the same name, which is deleted after the block."""
        with tempfile.TemporaryDirectory(dir=self._fetched.path) as folder:
            path = Path(folder) / PurePosixPath(key).name
            with _reading():
                content = obstore.get(self._objects, key)
                with path.open("wb") as file:
                    for block in content.stream(min_chunk_size=_BLOCK):
                        file.write(block)
            yield path

    def _listed(self, prefix: str) -> list[dict[str, Any]]:
        """List the objects whose keys begin with whole parts.

        Raises:
            Problem: the bucket cannot be reached.
        """
        with _reading():
            return [dict(one) for some in obstore.list(self._objects, prefix.rstrip("/") or None) for one in some]

    def _keys(self, prefix: str) -> list[str]:
        try:
            return [one["path"] for one in self._listed(prefix)]
        except Problem:  # the log has it; what is left is found again by `old`
            return []

    def _delete(self, job_id: str, keys: list[str]) -> None:
        try:
            if keys:
                obstore.delete(self._objects, keys)
        except FileNotFoundError:  # another process deleted one of them just now
            for key in keys:
                self._delete_one(job_id, key)
        except _ERRORS as error:
            log.error("files of job %s cannot be deleted (%s): see %s", job_id, _kind(error), self.place(job_id))

    def _delete_one(self, job_id: str, key: str) -> None:
        try:
            obstore.delete(self._objects, key)
        except FileNotFoundError:
            pass
        except _ERRORS as error:
            log.error("a file of job %s cannot be deleted (%s): see %s", job_id, _kind(error), self.place(job_id))


def _open(bucket: str, prefix: str, endpoint: str | None, *, quick: bool = False) -> S3Store:
    options: dict[str, Any] = {
        "client_options": {"connect_timeout": "5s", "timeout": "4s" if quick else "600s"},
        "retry_config": {
            "max_retries": 1 if quick else 8,
            "retry_timeout": timedelta(seconds=2 if quick else 60),
        },
    }
    if endpoint is not None:
        options["endpoint"] = endpoint
        options["client_options"]["allow_http"] = endpoint.startswith("http://")
    try:
        return S3Store(bucket, prefix=prefix.strip("/") or None, **options)
    except _ERRORS as error:
        raise ConfigError(
            f"expected a bucket that can be used, got s3://{bucket} ({_kind(error)}): check MRI_RECON_BUCKET, "
            "MRI_RECON_BUCKET_ENDPOINT and the AWS_... variables"
        ) from error


def _key(job: Job, name: str) -> str:
    return f"{job.id}/{job.run}/{name}" if job.run else f"{job.id}/{name}"


@contextmanager
def _reading() -> Iterator[None]:
    """Turn the errors of the block into those of `FileStore`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except _ERRORS as error:
        log.error("the bucket cannot be read (%s)", _kind(error))
        raise Problem("busy", "the files of jobs cannot be reached: try again later", headers=_RETRY_AFTER) from error


def _kind(error: Exception) -> str:
    """Name the kind of an error. Its message has addresses and keys, which are not for every reader."""
    return type(error).__name__
