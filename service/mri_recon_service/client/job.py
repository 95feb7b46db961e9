"""Ask for, wait for, stop and fetch one job of the service."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias, TypeVar, cast
from urllib.parse import quote
from zipfile import BadZipFile

from mri_recon._system.files import replacing
from mri_recon._system.text import printable
from mri_recon.errors import ConfigError, OutputError
from mri_recon.progress import Progress
from mri_recon_service.client.answers import document_of, job_error
from mri_recon_service.client.caller import Caller
from mri_recon_service.client.errors import ForeignServerError, ServiceError, WaitTimeoutError
from mri_recon_service.client.events import EventReader
from mri_recon_service.client.formats import NPZ, media_type
from mri_recon_service.client.results import (
    Comparison,
    Image,
    Part,
    parts_of,
    read_comparison,
    read_image,
    read_part,
)
from mri_recon_service.client.wire import Call, Transport

__all__ = ["PartReader", "RemoteJob", "ReportProgress"]

T = TypeVar("T")

ReportProgress: TypeAlias = Callable[[Progress], Any]
"""Called with the progress of a job. What it raises cancels the job."""

_ENDED = frozenset({"succeeded", "failed", "cancelled"})
_KINDS = frozenset({"reconstruction", "comparison"})
_SPOOLED = 64 << 20  # bytes of a result that are kept in memory before they go to a file


class RemoteJob:
    """A job of the service, by its identifier.

    Attributes:
        caller: sends the requests.
        id: the job's identifier.
        document: the last document of the job that the service has sent; None before.
        source: path of the scan, which no result replaces; None if there is none.
    """

    def __init__(self, caller: Caller, job_id: str, *, source: Path | None = None) -> None:
        self.caller = caller
        self.id = job_id
        self.source = source
        self.document: dict[str, Any] | None = None

    def __repr__(self) -> str:
        told = self.document
        return f"RemoteJob({self.id}, {told['kind']}, {told['status']})" if told else f"RemoteJob({self.id})"

    @property
    def path(self) -> str:
        """Address of the job below that of the service."""
        return f"/v1/jobs/{quote(self.id, safe='')}"

    @property
    def ended(self) -> bool:
        """Whether the job is known to have ended."""
        return self.document is not None and self.document["status"] in _ENDED

    def learn(self, document: dict[str, Any]) -> dict[str, Any]:
        """Keep a document of the job, and return it.

        Raises:
            ForeignServerError: it is no document of a job.
        """
        if not {"id", "kind", "status"} <= document.keys() or document["kind"] not in _KINDS:
            raise ForeignServerError(
                f"expected the document of a job at {self.caller.address}, got one with {sorted(document)[:10]}: check "
                "the address, and that the client is not older than the service"
            )
        self.document = document
        return document

    def events(self, *, after: int = 0) -> EventReader:
        """Make a reader of the job's events after a number."""
        return EventReader(self.caller, self.path, self.learn, after=after)

    async def refresh(self, *, patience: float | None = None) -> dict[str, Any]:
        """Ask for the job's document, unless the job is known to have ended.

        Raises:
            ServiceError: there is no such job, or the service cannot be reached.
        """
        if self.document is not None and self.ended:
            return self.document
        answer = await self.caller.ask(Call("GET", self.path), patience=patience)
        return self.learn(document_of(answer, self.caller.address))

    async def cancel(self, *, patience: float | None = None) -> dict[str, Any]:
        """Stop the job if it waits or runs, and return its document. One that has ended stays as it is.

        Raises:
            ServiceError: as `refresh`.
        """
        document = await self.refresh(patience=patience)
        if document["status"] in _ENDED:
            return document
        answer = await self.caller.ask(Call("DELETE", self.path), patience=patience)
        if answer.status == 202:
            return self.learn(document_of(answer, self.caller.address))
        return {**document, "status": "cancelled"}  # it ended at this moment, and is deleted

    async def delete(self) -> None:
        """Delete the job and its result from the service; one that waits or runs is stopped first.

        Raises:
            ServiceError: as `refresh`.
        """
        reader = self.events()
        try:
            await self.cancel()
            while await reader.next() is not None:
                pass
            await self.caller.ask(Call("DELETE", self.path))
        except ServiceError as error:
            if error.code != "job-not-found":
                raise
        finally:
            await reader.close()

    async def wait(self, report: ReportProgress | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the end of the job, and return its document.

        Args:
            report: called with every progress from now on.
            timeout: seconds.

        Raises:
            WaitTimeoutError: the job has not ended within the time.
            ServiceError: as `refresh`.
        """
        if self.document is not None and self.ended:
            return self.document
        reader = self.events()
        try:
            deadline = None if timeout is None else time.monotonic() + timeout
            while (event := await reader.next(deadline=deadline)) is not None:
                if event.progress is not None and report is not None:
                    told = report(event.progress)
                    if isawaitable(told):
                        await told
        except WaitTimeoutError as error:
            error.job_id = self.id
            raise
        finally:
            await reader.close()
        return await self.refresh()

    async def load(self) -> Image | Comparison:
        """Fetch the arrays and metadata of the result.

        Raises:
            ServiceError: the job ended without a result, or the result has been deleted.
        """
        document = await self.refresh()
        error = job_error(document)
        if error is not None:
            raise error
        if document["kind"] == "reconstruction":
            return await self._read("result", read_image)
        return await self._read("result", read_comparison)

    async def part(self, name: str) -> Part:
        """Fetch a finished part of a running comparison.

        Raises:
            ServiceError: "part-not-found": it is not finished, or the comparison has ended.
        """
        return await self._read(f"parts/{quote(name, safe='')}", partial(read_part, name=name))

    def parts(self) -> PartReader:
        """Make a reader of the parts of a comparison."""
        return PartReader(self)

    async def save(self, path: str | Path, method: str | None = None) -> str:
        """Write the result into a file, in the format of its suffix, as it arrives.

        Args:
            path: the file.
            method: method of a comparison whose image alone is written.

        Returns:
            One sentence about data that the format cannot hold; "" if it holds everything.

        Raises:
            OutputError: unknown suffix, the scan's own file, or a file that cannot be written.
            ServiceError: as `load`.
        """
        document = await self.refresh()
        media = media_type(path, document["kind"] if method is None else "method")
        self._check_replaces_no_scan(path)
        error = job_error(document)
        if error is not None:
            raise error
        async with _replacing(path, self.caller.transport) as file:
            headers = await self._fetch(
                media, file, "result" if method is None else f"methods/{quote(method, safe='')}"
            )
        return headers.get("x-left-out", "")

    async def _read(self, place: str, read: Callable[[IO[bytes]], T]) -> T:
        """Fetch an npz file of the job, and read it."""
        with tempfile.SpooledTemporaryFile(_SPOOLED) as spooled:
            file = cast(BinaryIO, spooled)  # it has every method of one
            await self._fetch(NPZ, file, place)
            try:
                return await self.caller.transport.blocking(read, file)
            except (ValueError, KeyError, OSError, EOFError, BadZipFile) as broken:
                raise ForeignServerError(
                    f"expected the result of the job {self.id}, got a file that cannot be read ({broken}): fetch it "
                    "again",
                    job_id=self.id,
                ) from broken

    async def _fetch(self, media: str, into: BinaryIO, place: str = "result") -> Mapping[str, str]:
        headers = {"Accept": media, "Prefer": "return=representation"}  # from the service itself
        answer = await self.caller.ask(Call("GET", f"{self.path}/{place}", headers=headers), into=into)
        into.seek(0, os.SEEK_END)
        return answer.headers

    def _check_replaces_no_scan(self, path: str | Path) -> None:
        try:
            same = self.source is not None and Path(path).samefile(self.source)
        except (OSError, ValueError):
            return
        if same:
            raise OutputError(f"{printable(path)} is the scan itself: choose another name for the result")


class PartReader:
    """Reads the parts of a comparison, each once: those that are done while it runs, the others from its result.

    Args:
        job: the job.
    """

    def __init__(self, job: RemoteJob) -> None:
        self._job = job
        self._events = job.events()
        self._done: list[str] = []
        self._read: set[str] = set()
        self._last: list[Part] | None = None

    async def next(self) -> Part | None:
        """Wait for the next part, and return it; None after the last.

        Raises:
            ConfigError: the job is no comparison.
            ServiceError: it ended without a result, or the service cannot be reached.
        """
        if not self._read:
            await self._check_kind()
        while self._last is None:
            for name in self._done:
                if name not in self._read and (part := await self._fetched(name)) is not None:
                    self._read.add(name)
                    return part
            event = await self._events.next()
            if event is None:
                whole = await self._job.load()
                assert isinstance(whole, Comparison)
                self._last = [one for one in parts_of(whole) if one.name not in self._read]
            else:
                progress = event.document if event.kind == "progress" else event.document.get("progress") or {}
                self._done = list(progress.get("parts", self._done))
        return self._last.pop(0) if self._last else None

    async def close(self) -> None:
        """Close the connection."""
        await self._events.close()

    async def _check_kind(self) -> None:
        kind = (await self._job.refresh())["kind"]
        if kind != "comparison":
            raise ConfigError(f"expected a comparison, which has parts, got a job that is a {kind}: take its result")

    async def _fetched(self, name: str) -> Part | None:
        try:
            return await self._job.part(name)
        except ServiceError as error:
            if error.code != "part-not-found":  # it ended meanwhile, or begins anew
                raise
            return None


@asynccontextmanager
async def _replacing(path: str | Path, transport: Transport) -> AsyncIterator[BinaryIO]:
    """Open a file as `replacing` does; where the transport is asynchronous, in a thread."""
    manager = replacing(path)
    file = await transport.blocking(manager.__enter__)
    try:
        yield file
    except BaseException:
        manager.__exit__(*sys.exc_info())  # deletes a file: takes no time
        raise
    await transport.blocking(manager.__exit__, None, None, None)
