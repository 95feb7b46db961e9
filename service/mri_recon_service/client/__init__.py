"""Use a running `mri-recon serve` from Python: reconstructions, comparisons, jobs with progress.

    from mri_recon_service.client import Client

    with Client("http://127.0.0.1:8000") as service:
        result = service.reconstruct("scan.h5", method="unrolled", acceleration=4, on_progress=print)
        print(result.image.shape, result.warnings)
        result.save("image.nii.gz")

`AsyncClient` is the same with `await`. Neither loads torch. `errors` draws the tree of exceptions.

Research only: not a medical device, not for diagnosis or treatment.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("httpx") is None:
    raise ModuleNotFoundError("the client of the service needs httpx: pip install 'mri-recon[client]'", name="httpx")

from mri_recon_service.client.asynchronous import AsyncClient, AsyncComparisonResult, AsyncJob, AsyncResult
from mri_recon_service.client.blocking import Client, ComparisonResult, Job, Result
from mri_recon_service.client.errors import (
    AccessError,
    BusyError,
    ForeignServerError,
    JobCancelledError,
    JobFailedError,
    ServiceError,
    UnreachableError,
    WaitTimeoutError,
)
from mri_recon_service.client.events import Event
from mri_recon_service.client.results import Part
from mri_recon_service.client.scans import DrawnMask, ScanBytes

__all__ = [
    "AccessError",
    "AsyncClient",
    "AsyncComparisonResult",
    "AsyncJob",
    "AsyncResult",
    "BusyError",
    "Client",
    "ComparisonResult",
    "DrawnMask",
    "Event",
    "ForeignServerError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "Part",
    "Result",
    "ScanBytes",
    "ServiceError",
    "UnreachableError",
    "WaitTimeoutError",
]
