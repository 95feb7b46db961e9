"""Define the errors of the client.

```
MriReconError
└── ServiceError          the service refuses a request or fails; the others are special cases
    ├── UnreachableError  nobody answers at the address, or the connection was lost for too long
    ├── ForeignServerError  the answer is none of mri-recon: another server, a proxy, a redirection
    ├── AccessError       no key, a wrong key, or a name by which the service does not go
    ├── BusyError         the service takes no work now, and did not for as long as the client's patience
    ├── JobFailedError    the job ended without a result
    ├── JobCancelledError the job was cancelled
    └── WaitTimeoutError  the job has not ended within the given time; it goes on
```

Errors of files and arrays are those of the library: `FormatError`, `ShapeError`, `OutputError`, `ConfigError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mri_recon.errors import MriReconError

__all__ = [
    "AccessError",
    "BusyError",
    "ForeignServerError",
    "JobCancelledError",
    "JobFailedError",
    "ServiceError",
    "UnreachableError",
    "WaitTimeoutError",
]


class ServiceError(MriReconError):
    """The service refuses a request or fails.

    Attributes:
        code: stable code of the problem, e.g. "unknown-method"; without an answer of the service a code of the client:
            "unreachable", "foreign-server", "wait-timeout", "client-closed".
        status: HTTP status; None without an answer.
        detail: message of this occurrence.
        title: summary of the kind of problem.
        request_id: identifier by which the operator finds the request in the log; None without an answer.
        members: the whole problem document, with members of its code such as `valid` or `errors`.
        job_id: the job that is concerned, if it is known.
    """

    code = "internal-error"

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        members: Mapping[str, Any] | None = None,
        job_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.members = dict(members or {})
        self.code = str(self.members.get("code", type(self).code))
        self.status = status
        self.detail = str(self.members.get("detail", message))
        self.title = str(self.members.get("title", ""))
        request_id = self.members.get("request_id")
        self.request_id = None if request_id is None else str(request_id)
        self.job_id = job_id


class UnreachableError(ServiceError):
    """Nobody answers at the address, or the connection was lost for longer than the client's patience."""

    code = "unreachable"


class ForeignServerError(ServiceError):
    """The answer is none of mri-recon: another server, a proxy in front of it, or a redirection."""

    code = "foreign-server"


class AccessError(ServiceError):
    """The service refuses the key, the lack of one, or the name by which it was called."""


class BusyError(ServiceError):
    """The service takes no work now, and did not for as long as the client's patience."""


class JobFailedError(ServiceError):
    """The job ended without a result; `code` and `detail` have the reason."""


class JobCancelledError(ServiceError):
    """The job was cancelled, by this client or by another one with the same key."""


class WaitTimeoutError(ServiceError, TimeoutError):
    """The job has not ended within the given time. It goes on: `job_id` names it."""

    code = "wait-timeout"
