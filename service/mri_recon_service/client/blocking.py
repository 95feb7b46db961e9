"""The client for ordinary programs: every call waits for its answer."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping
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
from mri_recon_service.client.transports import BlockingTransport, checked_address, checked_key, http_options
from mri_recon_service.client.wire import run

__all__ = ["Client", "ComparisonResult", "Job", "Result"]


class Job:
    """A job of the service. It goes on when the client ends; `Client.job` finds it again by its `id`."""

    def __init__(self, remote: RemoteJob) -> None:
        self._remote = remote

    def __repr__(self) -> str:
        return repr(self._remote).replace("RemoteJob", "Job", 1)

    @property
    def id(self) -> str:
        """Identifier of the job."""
        return self._remote.id

    @property
    def status(self) -> str:
        """State of the job now: queued, running, succeeded, failed or cancelled. The service is asked until the end.

        Raises:
            ServiceError: there is no such job, or the service cannot be reached.
        """
        return str(self.document["status"])

    @property
    def document(self) -> dict[str, Any]:
        """Document of the job, with place in the queue, times, progress and problem; asked as `status` is."""
        return run(self._remote.refresh())

    def events(self, *, after: int = 0) -> Iterator[Event]:
        """Follow the job: yield its events from the first, or from the one after number `after`, to its end.

        Raises:
            ServiceError: the job is deleted, or the service cannot be reached for the client's patience.
        """
        reader = self._remote.events(after=after)
        try:
            while (event := run(reader.next())) is not None:
                yield event
        finally:
            run(reader.close())

    def parts(self) -> Iterator[Part]:
        """Follow a comparison: yield the scan's part and each method's as soon as it is done, each once.

        What was not fetched while the comparison ran comes from its result at the end.

        Raises:
            ConfigError: the job is no comparison.
            ServiceError: it ended without a result, or the service cannot be reached for the client's patience.
        """
        reader = self._remote.parts()
        try:
            while (part := run(reader.next())) is not None:
                yield part
        finally:
            run(reader.close())

    def result(
        self, *, timeout: float | None = None, on_progress: ReportProgress | None = None
    ) -> Result | ComparisonResult:
        """Wait for the end of the job, and fetch its result.

        Args:
            timeout: seconds to wait; None waits for as long as it takes. Afterwards the job goes on.
            on_progress: called with every progress.

        Raises:
            WaitTimeoutError: the job has not ended within the time.
            JobFailedError: it ended without a result.
            JobCancelledError: it was cancelled.
            ServiceError: the result has been deleted, or the service cannot be reached.
        """
        run(self._remote.wait(on_progress, timeout=timeout))
        return _result(self, run(self._remote.load()))

    def save(self, path: str | Path, *, method: str | None = None) -> str:
        """Write the result of a finished job to a file, as it arrives, without holding it in memory.

        Args:
            path: file to write or replace; its suffix is the format. A failure leaves what was there.
            method: method of a comparison whose image alone is written.

        Returns:
            One sentence about data that the format cannot hold; "" if it holds everything.

        Raises:
            OutputError: an unknown suffix, the scan itself, or a file that cannot be written.
            ServiceError: as `result`; "job-not-finished" before the end.
        """
        return run(self._remote.save(path, method))

    def cancel(self) -> str:
        """Stop the job before its next iteration, and return its status. A job that has ended stays as it is.

        Raises:
            ServiceError: as `status`.
        """
        return str(run(self._remote.cancel())["status"])

    def delete(self) -> None:
        """Delete the job and its result from the service. One that waits or runs is stopped first.

        Raises:
            ServiceError: the service cannot be reached.
        """
        run(self._remote.delete())


@dataclass(frozen=True, eq=False, repr=False)
class Result(Image):
    """The image of a job, see `Image`.

    Attributes:
        job: the job, from which `save` fetches files.
    """

    job: Job

    def save(self, path: str | Path) -> str:
        """Write the result in the format of a suffix, as `Job.save` does.

        `.h5`, `.npy`, `.npz`, `.mat` and `.mrd` hold complex numbers, `.dcm`, `.dcm.zip` and `.nii.gz` magnitudes with
        their place in the patient, `.png` one slice.

        Raises:
            OutputError, ServiceError: as `Job.save`.
        """
        return self.job.save(path)


@dataclass(frozen=True, eq=False, repr=False)
class ComparisonResult(Comparison):
    """The comparison of a job, see `Comparison`.

    Attributes:
        job: the job, from which `save` fetches files.
    """

    job: Job

    def save(self, path: str | Path, *, method: str | None = None) -> str:
        """Write the comparison as `Job.save` does: `.json` with pictures of one slice, or `.npz`.

        Args:
            path: the file.
            method: method whose image alone is written, e.g. as `.nii.gz`.

        Raises:
            OutputError, ServiceError: as `Job.save`.
        """
        return self.job.save(path, method=method)


class Client:
    """A client of `mri-recon serve`.

    Work is sent as a job under an idempotency key. Where the connection is lost, or the service is busy or restarts,
    requests are sent again: nothing is lost, and nothing is computed twice.

    Args:
        address: address of the service, with its prefix if it has one.
        key: API key, where the service needs one.
        patience: seconds for which a request is sent again before an error is raised.
        timeout: seconds of silence after which a connection counts as lost. Events have a limit of their own.
        verify: whether and how certificates are checked; `ssl.create_default_context(cafile=...)` for an own authority.

    Raises:
        ConfigError: an address or a key that cannot be one.
    """

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
        self._transport = BlockingTransport(http_options(url, timeout=timeout, verify=verify))
        self._caller = Caller(self._transport, str(url).rstrip("/"), patience=patience, key=own_key)

    def __repr__(self) -> str:
        return f"Client({self._caller.address})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Jobs go on."""
        self._transport.close()

    def reconstruct(
        self,
        scan: ScanInput,
        *,
        method: str,
        mask: MaskInput = None,
        on_progress: ReportProgress | None = None,
        idempotency_key: str | None = None,
        **fields: FieldValue,
    ) -> Result:
        """Reconstruct a scan, and wait for the image. Ctrl-C, and what `on_progress` raises, cancels the job.

        Args:
            scan: path of a file, k-space as an array (name its axes by `axes`), or `ScanBytes`.
            method: name of a method; `methods` lists them.
            mask: "file" for the scan's own, "from-zeros" if zeros of k-space were not sampled, the path of a file, an
                array, or a mask of `Client.mask`.
            on_progress: called with every progress.
            idempotency_key: the same key with the same request gives the same job, also after a restart of the client.
                A new one by default.
            fields: fields of `POST /v1/reconstructions`, e.g. `acceleration`, `seed`, `axes`, `check`,
                `deadline_seconds`, and options of the method, e.g. `reg_weight`.

        Raises:
            JobFailedError: the job ended without a result.
            ServiceError: the service refuses the request, or cannot be reached.
            FormatError, ShapeError, ConfigError: the scan or a field cannot be sent.
        """
        remote, found = run(
            work.completed(
                self._caller,
                "reconstruction",
                scan,
                mask,
                {"method": method, **field_texts(fields)},
                key=idempotency_key,
                report=on_progress,
            )
        )
        assert isinstance(found, Image)
        return Result(**vars(found), job=Job(remote))

    def compare(
        self,
        scan: ScanInput,
        *,
        methods: str | Iterable[str] | None = None,
        options: Mapping[str, Mapping[str, FieldValue]] | None = None,
        mask: MaskInput = None,
        on_progress: ReportProgress | None = None,
        idempotency_key: str | None = None,
        **fields: FieldValue,
    ) -> ComparisonResult:
        """Reconstruct the same samples with several methods, and wait for images and metrics.

        Args:
            scan: as in `reconstruct`.
            methods: names of methods; those of the service by default.
            options: options by method, e.g. `{"cs-wavelet": {"max_iters": 50}}`.
            mask: as in `reconstruct`.
            on_progress: as in `reconstruct`.
            idempotency_key: as in `reconstruct`.
            fields: fields of `POST /v1/compare`, e.g. `acceleration`.

        Raises:
            ServiceError, FormatError, ShapeError, ConfigError: as `reconstruct`.
        """
        texts = {**compare_texts(methods, options), **field_texts(fields)}
        remote, found = run(
            work.completed(self._caller, "comparison", scan, mask, texts, key=idempotency_key, report=on_progress)
        )
        assert isinstance(found, Comparison)
        return ComparisonResult(**vars(found), job=Job(remote))

    def submit(
        self,
        scan: ScanInput,
        *,
        method: str,
        mask: MaskInput = None,
        idempotency_key: str | None = None,
        **fields: FieldValue,
    ) -> Job:
        """Send a reconstruction, and return its job at once; arguments as in `reconstruct`.

        Raises:
            ServiceError, FormatError, ShapeError, ConfigError: as `reconstruct`.
        """
        texts = {"method": method, **field_texts(fields)}
        return Job(run(work.submitted(self._caller, "reconstruction", scan, mask, texts, key=idempotency_key)))

    def submit_comparison(
        self,
        scan: ScanInput,
        *,
        methods: str | Iterable[str] | None = None,
        options: Mapping[str, Mapping[str, FieldValue]] | None = None,
        mask: MaskInput = None,
        idempotency_key: str | None = None,
        **fields: FieldValue,
    ) -> Job:
        """Send a comparison, and return its job at once; arguments as in `compare`.

        Raises:
            ServiceError, FormatError, ShapeError, ConfigError: as `reconstruct`.
        """
        texts = {**compare_texts(methods, options), **field_texts(fields)}
        return Job(run(work.submitted(self._caller, "comparison", scan, mask, texts, key=idempotency_key)))

    def job(self, job_id: str) -> Job:
        """Return the job of an identifier, e.g. of a job that an earlier client sent. The service is not asked."""
        return Job(RemoteJob(self._caller, job_id))

    def jobs(self, *, limit: int = 50) -> list[Job]:
        """List the jobs of this client's key, the newest first.

        Args:
            limit: largest number of jobs.

        Raises:
            ServiceError: the service cannot be reached.
        """
        return [Job(one) for one in run(work.list_jobs(self._caller, limit))]

    def validate(
        self,
        scan: ScanInput,
        *,
        method: str | None = None,
        methods: str | Iterable[str] | None = None,
        options: Mapping[str, Mapping[str, FieldValue]] | None = None,
        mask: MaskInput = None,
        **fields: FieldValue,
    ) -> dict[str, Any]:
        """Check a request without running it: content of the scan, mask, memory and time.

        Args:
            scan: as in `reconstruct`.
            method: method of a reconstruction; without it the request is a comparison.
            methods: methods of a comparison.
            options: options of a comparison.
            mask: as in `reconstruct`.
            fields: as in `reconstruct` or `compare`.

        Returns:
            The answer of `POST /v1/validate`: `accepted`, `problem`, `scan`, `mask`, `methods`, `memory_bytes`.

        Raises:
            ServiceError, FormatError, ShapeError, ConfigError: as `reconstruct`.
        """
        texts = {**field_texts({"method": method}), **compare_texts(methods, options), **field_texts(fields)}
        return run(requests.examine(self._caller, scan, mask, texts))

    def methods(self) -> list[dict[str, Any]]:
        """List the methods: `name`, `summary`, and `options` with their defaults."""
        return list(run(requests.list_models(self._caller))["methods"])

    def models(self) -> list[dict[str, Any]]:
        """List the model cards of the networks' weights; the option `model` takes their names."""
        return list(run(requests.list_models(self._caller))["models"])

    def sample(self) -> ScanBytes:
        """Fetch the scan that comes with the service, simulated. It can be reconstructed, or saved to a file."""
        return run(requests.sample_scan(self._caller))

    def mask(self, *, width: int, acceleration: float, **fields: FieldValue) -> DrawnMask:
        """Draw the mask that a scan of this width gets with the same fields.

        Args:
            width: number of columns of k-space.
            acceleration: one in so many columns is sampled.
            fields: fields of `/v1/masks`: `center_fraction`, `num_low_frequencies`, `seed`, `mask_kind`, `support`.
        """
        texts = field_texts({"width": width, "acceleration": acceleration, **fields})
        return run(requests.draw_mask(self._caller, texts))

    def ready(self, *, timeout: float = 0.0) -> bool:
        """Tell whether every model is loaded, or becomes so within `timeout` seconds, in which the service may start.

        Raises:
            UnreachableError: nobody answers.
        """
        return run(requests.is_ready(self._caller, timeout))


def _result(job: Job, found: Image | Comparison) -> Result | ComparisonResult:
    return Result(**vars(found), job=job) if isinstance(found, Image) else ComparisonResult(**vars(found), job=job)
