"""The client for event loops, of asyncio or Trio: what `blocking` has, with `await` and `async for`."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mri_recon_service.client import requests, work
from mri_recon_service.client.caller import Caller
from mri_recon_service.client.events import Event
from mri_recon_service.client.fields import FieldValue, compare_texts, field_texts
from mri_recon_service.client.job import RemoteJob, ReportProgress
from mri_recon_service.client.results import Comparison, Image, Part
from mri_recon_service.client.scans import DrawnMask, MaskInput, ScanBytes, ScanInput
from mri_recon_service.client.transports import AsyncTransport, checked_address, checked_key, http_options

__all__ = ["AsyncClient", "AsyncComparisonResult", "AsyncJob", "AsyncResult"]


class AsyncJob:
    """A job of the service, see `Job`."""

    def __init__(self, remote: RemoteJob) -> None:
        self._remote = remote

    def __repr__(self) -> str:
        return repr(self._remote).replace("RemoteJob", "AsyncJob", 1)

    @property
    def id(self) -> str:
        """Identifier of the job."""
        return self._remote.id

    @property
    def status(self) -> Coroutine[Any, Any, str]:
        """State of the job now, see `Job.status`: `await job.status`."""
        return self._status()

    @property
    def document(self) -> Coroutine[Any, Any, dict[str, Any]]:
        """Document of the job, see `Job.document`: `await job.document`."""
        return self._remote.refresh()

    async def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """Follow the job, see `Job.events`: `async for event in job.events()`."""
        reader = self._remote.events(after=after)
        try:
            while (event := await reader.next()) is not None:
                yield event
        finally:
            await reader.close()

    async def parts(self) -> AsyncIterator[Part]:
        """Follow a comparison, see `Job.parts`: `async for part in job.parts()`.

        Raises:
            ConfigError, ServiceError: as `Job.parts`.
        """
        reader = self._remote.parts()
        try:
            while (part := await reader.next()) is not None:
                yield part
        finally:
            await reader.close()

    async def result(
        self, *, timeout: float | None = None, on_progress: ReportProgress | None = None
    ) -> AsyncResult | AsyncComparisonResult:
        """Wait for the end of the job, and fetch its result, see `Job.result`.

        Args:
            timeout: seconds to wait. Afterwards, and if this task is cancelled, the job goes on.
            on_progress: called with every progress, and awaited if it is a coroutine function.

        Raises:
            ServiceError: as `Job.result`.
        """
        await self._remote.wait(on_progress, timeout=timeout)
        found = await self._remote.load()
        if isinstance(found, Image):
            return AsyncResult(**vars(found), job=self)
        return AsyncComparisonResult(**vars(found), job=self)

    async def save(self, path: str | Path, *, method: str | None = None) -> str:
        """Write the result of a finished job to a file, see `Job.save`.

        Raises:
            OutputError, ServiceError: as `Job.save`.
        """
        return await self._remote.save(path, method)

    async def cancel(self) -> str:
        """Stop the job before its next iteration, see `Job.cancel`.

        Raises:
            ServiceError: as `Job.cancel`.
        """
        return str((await self._remote.cancel())["status"])

    async def delete(self) -> None:
        """Delete the job and its result, see `Job.delete`.

        Raises:
            ServiceError: as `Job.delete`.
        """
        await self._remote.delete()

    async def _status(self) -> str:
        return str((await self._remote.refresh())["status"])


@dataclass(frozen=True, eq=False, repr=False)
class AsyncResult(Image):
    """The image of a job, see `Image`.

    Attributes:
        job: the job, from which `save` fetches files.
    """

    job: AsyncJob

    async def save(self, path: str | Path) -> str:
        """Write the result to a file, see `Result.save`."""
        return await self.job.save(path)


@dataclass(frozen=True, eq=False, repr=False)
class AsyncComparisonResult(Comparison):
    """The comparison of a job, see `Comparison`.

    Attributes:
        job: the job, from which `save` fetches files.
    """

    job: AsyncJob

    async def save(self, path: str | Path, *, method: str | None = None) -> str:
        """Write the comparison, or the image of one method, to a file, see `ComparisonResult.save`."""
        return await self.job.save(path, method=method)


class AsyncClient:
    """A client of `mri-recon serve` for event loops. Arguments and errors are those of `Client`."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        patience: float = 300.0,
        timeout: float = 300.0,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        url = checked_address(address)
        own_key = checked_key(key)
        self._transport = AsyncTransport(http_options(url, timeout=timeout, verify=verify))
        self._caller = Caller(self._transport, str(url).rstrip("/"), patience=patience, key=own_key)

    def __repr__(self) -> str:
        return f"AsyncClient({self._caller.address})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Jobs go on."""
        await self._transport.close()

    async def reconstruct(
        self,
        scan: ScanInput,
        *,
        method: str,
        mask: MaskInput = None,
        on_progress: ReportProgress | None = None,
        idempotency_key: str | None = None,
        **fields: FieldValue,
    ) -> AsyncResult:
        """Reconstruct a scan, and wait for the image, see `Client.reconstruct`. Cancelling the task cancels the job.

        Raises:
            ServiceError, FormatError, ShapeError, ConfigError: as `Client.reconstruct`.
        """
        texts = {"method": method, **field_texts(fields)}
        remote, found = await work.completed(
            self._caller, "reconstruction", scan, mask, texts, key=idempotency_key, report=on_progress
        )
        assert isinstance(found, Image)
        return AsyncResult(**vars(found), job=AsyncJob(remote))

    async def compare(
        self,
        scan: ScanInput,
        *,
        methods: str | Iterable[str] | None = None,
        options: Mapping[str, Mapping[str, FieldValue]] | None = None,
        mask: MaskInput = None,
        on_progress: ReportProgress | None = None,
        idempotency_key: str | None = None,
        **fields: FieldValue,
    ) -> AsyncComparisonResult:
        """Compare methods, and wait for images and metrics, see `Client.compare`. Cancelling the task cancels the job.

        Raises:
            ServiceError, FormatError, ShapeError, ConfigError: as `Client.compare`.
        """
        texts = {**compare_texts(methods, options), **field_texts(fields)}
        remote, found = await work.completed(
            self._caller, "comparison", scan, mask, texts, key=idempotency_key, report=on_progress
        )
        assert isinstance(found, Comparison)
        return AsyncComparisonResult(**vars(found), job=AsyncJob(remote))

    async def submit(
        self,
        scan: ScanInput,
        *,
        method: str,
        mask: MaskInput = None,
        idempotency_key: str | None = None,
        **fields: FieldValue,
    ) -> AsyncJob:
        """Send a reconstruction, and return its job at once, see `Client.submit`.

        Raises:
            ServiceError, FormatError, ShapeError, ConfigError: as `Client.submit`.
        """
        texts = {"method": method, **field_texts(fields)}
        return AsyncJob(await work.submitted(self._caller, "reconstruction", scan, mask, texts, key=idempotency_key))

    async def submit_comparison(
        self,
        scan: ScanInput,
        *,
        methods: str | Iterable[str] | None = None,
        options: Mapping[str, Mapping[str, FieldValue]] | None = None,
        mask: MaskInput = None,
        idempotency_key: str | None = None,
        **fields: FieldValue,
    ) -> AsyncJob:
        """Send a comparison, and return its job at once, see `Client.submit_comparison`.

        Raises:
            ServiceError, FormatError, ShapeError, ConfigError: as `Client.submit_comparison`.
        """
        texts = {**compare_texts(methods, options), **field_texts(fields)}
        return AsyncJob(await work.submitted(self._caller, "comparison", scan, mask, texts, key=idempotency_key))

    def job(self, job_id: str) -> AsyncJob:
        """Return the job of an identifier, see `Client.job`. The service is not asked."""
        return AsyncJob(RemoteJob(self._caller, job_id))

    async def jobs(self, *, limit: int = 50) -> list[AsyncJob]:
        """List the jobs of this client's key, the newest first.

        Raises:
            ServiceError: as `Client.jobs`.
        """
        return [AsyncJob(one) for one in await work.list_jobs(self._caller, limit)]

    async def validate(
        self,
        scan: ScanInput,
        *,
        method: str | None = None,
        methods: str | Iterable[str] | None = None,
        options: Mapping[str, Mapping[str, FieldValue]] | None = None,
        mask: MaskInput = None,
        **fields: FieldValue,
    ) -> dict[str, Any]:
        """Check a request without running it, see `Client.validate`.

        Raises:
            ServiceError, FormatError, ShapeError, ConfigError: as `Client.validate`.
        """
        texts = {**field_texts({"method": method}), **compare_texts(methods, options), **field_texts(fields)}
        return await requests.examine(self._caller, scan, mask, texts)

    async def methods(self) -> list[dict[str, Any]]:
        """List the methods, see `Client.methods`."""
        return list((await requests.list_models(self._caller))["methods"])

    async def models(self) -> list[dict[str, Any]]:
        """List the model cards, see `Client.models`."""
        return list((await requests.list_models(self._caller))["models"])

    async def sample(self) -> ScanBytes:
        """Fetch the scan that comes with the service, see `Client.sample`."""
        return await requests.sample_scan(self._caller)

    async def mask(self, *, width: int, acceleration: float, **fields: FieldValue) -> DrawnMask:
        """Draw the mask that a scan of this width gets with the same fields, see `Client.mask`."""
        texts = field_texts({"width": width, "acceleration": acceleration, **fields})
        return await requests.draw_mask(self._caller, texts)

    async def ready(self, *, timeout: float = 0.0) -> bool:
        """Tell whether every model is loaded, or becomes so in time, see `Client.ready`.

        Raises:
            UnreachableError: as `Client.ready`.
        """
        return await requests.is_ready(self._caller, timeout)
