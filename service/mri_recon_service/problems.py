"""Describe errors as RFC 9457 problem details with stable codes.

Every answer with a status of 400 or more is `application/problem+json`. Its members are `type` (a reference to
`/problems/CODE` of the same service), `title`, `status`, `code`, `detail`, `request_id`, and further ones of the code,
e.g. `valid`, the names that would have been accepted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from mri_recon._system.nearest import did_you_mean_word
from mri_recon.errors import (
    CheckpointError,
    DataError,
    FormatError,
    MaskError,
    MethodError,
    MriReconError,
    OutputError,
    ShapeError,
)

__all__ = [
    "EVERYWHERE_CODES",
    "MEDIA_TYPE",
    "PROBLEMS",
    "UPLOAD_CODES",
    "Problem",
    "ProblemKind",
    "install",
    "invalid_field",
    "invalid_request",
    "problem_of",
    "respond",
    "shown",
    "stopping",
    "storage_full",
]

log = logging.getLogger("mri_recon_service")

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class ProblemKind:
    """One kind of problem, with its place in the documentation.

    Attributes:
        status: HTTP status.
        title: a short summary, the same for every occurrence.
        cure: advice to the client.
    """

    status: int
    title: str
    cure: str


PROBLEMS: dict[str, ProblemKind] = {
    "malformed-body": ProblemKind(400, "The request body cannot be read", "Send multipart/form-data or a raw file."),
    "invalid-header": ProblemKind(400, "A header has an impossible value", "Correct the header that `detail` names."),
    "unauthorized": ProblemKind(
        401, "An API key is needed", "Send a valid one as `Authorization: Bearer KEY` or `X-API-Key: KEY`."
    ),
    "forbidden-origin": ProblemKind(
        403, "Another web page asked", "Use a page of the service, or have MRI_RECON_ALLOWED_ORIGINS list yours."
    ),
    "not-found": ProblemKind(404, "No such address", "See /docs for the addresses."),
    "part-not-found": ProblemKind(
        404, "The job has no such part", "Take a part that its progress lists, or the result once the job has ended."
    ),
    "job-not-found": ProblemKind(
        404, "No such job", "Check the identifier and the key. Finished jobs are deleted after some time."
    ),
    "unknown-inference-model": ProblemKind(404, "No such model", "Take one that `valid` lists."),
    "method-not-allowed": ProblemKind(
        405, "The address has no such HTTP method", "Use one that the Allow header lists."
    ),
    "not-acceptable": ProblemKind(
        406, "No acceptable representation", "Ask by Accept for a type that `valid` lists, or for */*."
    ),
    "upload-timeout": ProblemKind(408, "The upload took too long", "Send it again over a faster connection."),
    "job-not-finished": ProblemKind(409, "The job has no result yet", "Ask again when its status is `succeeded`."),
    "job-cancelled": ProblemKind(409, "The job was cancelled", "Send the request again if its result is wanted."),
    "result-expired": ProblemKind(410, "The job's result has been deleted", "Send the request again."),
    "upload-too-large": ProblemKind(
        413, "The request body is too large", "Send fewer slices, or raise MRI_RECON_MAX_UPLOAD_BYTES."
    ),
    "too-much-memory": ProblemKind(
        413, "The work takes more memory than is available", "Send fewer slices, or raise MRI_RECON_MAX_MEMORY_BYTES."
    ),
    "unsupported-media-type": ProblemKind(
        415, "Not a supported type of file", "Send a type or a file name that `valid` lists."
    ),
    "unknown-host": ProblemKind(
        421,
        "The service does not go by this name",
        "Call it by its own name, or list yours in MRI_RECON_ALLOWED_HOSTS.",
    ),
    "invalid-request": ProblemKind(422, "A field has an impossible value", "Correct the fields that `errors` lists."),
    "missing-file": ProblemKind(422, "The scan is missing", "Send it as the form field `file`, or as the body."),
    "empty-file": ProblemKind(422, "A file is empty", "Check the path that was uploaded."),
    "invalid-file": ProblemKind(
        422, "A file cannot be read", "Send an undamaged file of a supported format with finite numbers."
    ),
    "invalid-kspace": ProblemKind(
        422, "An array has the wrong rank, size or type", "Name its axes in the field `axes`."
    ),
    "missing-mask": ProblemKind(
        422, "No sampling mask is known", "Give `acceleration`, or the mask as a file in the field `mask`."
    ),
    "conflicting-masks": ProblemKind(422, "Two sampling masks were asked for", "Give `mask` or `acceleration`."),
    "invalid-mask": ProblemKind(
        422, "The sampling mask cannot be made or does not fit", "Follow the advice in `detail` about the mask."
    ),
    "unknown-method": ProblemKind(422, "No such reconstruction method", "Take one that `valid` lists."),
    "unknown-option": ProblemKind(422, "No such field or option", "Take one that `valid` lists."),
    "invalid-option": ProblemKind(422, "An option has an impossible value", "Follow the advice in `detail`."),
    "unknown-model": ProblemKind(422, "No such model", "Take a registered name that `valid` lists."),
    "unknown-target": ProblemKind(
        422, "No such target", "Take a name that `valid` lists, or have the operator register one."
    ),
    "idempotency-mismatch": ProblemKind(
        422, "The idempotency key belongs to another request", "Take a new key for every new request."
    ),
    "busy": ProblemKind(429, "Too much work is waiting", "Try again after the seconds that Retry-After gives."),
    "internal-error": ProblemKind(
        500, "The service failed", "Report it with the request id; the service's log has the details."
    ),
    "worker-lost": ProblemKind(
        500, "The process died while it worked on the job", "Send fewer slices; the operator's log may say why."
    ),
    "not-ready": ProblemKind(503, "The service is not ready", "Try again after the seconds that Retry-After gives."),
    "stopping": ProblemKind(
        503,
        "The service is stopping",
        "Send the request again after the seconds that Retry-After gives. Accepted jobs are kept.",
    ),
    "method-unavailable": ProblemKind(
        503, "The method cannot be loaded", "The operator must repair the package that registers it."
    ),
    "model-unavailable": ProblemKind(503, "The model's weights cannot be used", "The operator must reinstall them."),
    "timed-out": ProblemKind(
        503, "The reconstruction took too long", "Send fewer slices, or raise MRI_RECON_TIMEOUT_SECONDS."
    ),
    "storage-full": ProblemKind(
        507, "The upload or the result cannot be stored", "The operator must free space for uploads and jobs."
    ),
}
"""Every code, stable once released."""

_NO_UPLOAD_CODES = {"not-found", "unknown-inference-model", "method-not-allowed", "not-acceptable", "not-ready"}
_JOB_CODES = {"job-not-found", "job-not-finished", "job-cancelled", "result-expired", "worker-lost"}

EVERYWHERE_CODES = ("unauthorized", "forbidden-origin", "unknown-host", "stopping")
"""Codes with which every route may refuse a request."""

UPLOAD_CODES = tuple(code for code in PROBLEMS if code not in _NO_UPLOAD_CODES | _JOB_CODES)
"""Codes of the routes that take a scan, besides the code for `Accept`."""

_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 406: "not-acceptable", 413: "upload-too-large"}
_BY_STATUS |= {400: "malformed-body", 415: "unsupported-media-type", 422: "invalid-request", 429: "busy"}
_BY_ERROR: dict[type[MriReconError], str] = {
    FormatError: "invalid-file",
    DataError: "invalid-file",
    ShapeError: "invalid-kspace",
    MaskError: "invalid-mask",
    MethodError: "invalid-option",
}


class Problem(Exception):
    """An error of a known kind. Any code below a route may raise it.

    Attributes:
        code: a key of `PROBLEMS`.
        detail: message of this occurrence, with the expected value, the actual one and advice.
        headers: further response headers.
        extensions: further members of the document.
    """

    def __init__(self, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extensions: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.kind = PROBLEMS[code]
        self.detail = detail
        self.headers = dict(headers or {})
        self.extensions = extensions

    def document(self, request_id: str) -> dict[str, Any]:
        """Make the problem document."""
        return {
            "type": f"/problems/{self.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
            **self.extensions,
        }


def respond(problem: Problem, request_id: str) -> JSONResponse:
    """Make the HTTP response of a problem."""
    return JSONResponse(
        problem.document(request_id),
        status_code=problem.kind.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def stopping() -> Problem:
    """Make the problem of a request that a service which stops cannot answer any more."""
    return Problem(
        "stopping", "the service stops before the answer is there: send the request again", headers={"Retry-After": "5"}
    )


def problem_of(error: MriReconError) -> Problem:
    """Turn an error of the library into a problem.

    An error that a request can cause keeps its message, which has advice. Any other is logged for the operator.
    """
    if isinstance(error, FormatError) and error.argument:
        return invalid_field(error.argument, str(error))
    for kind, code in _BY_ERROR.items():
        if isinstance(error, kind):
            return Problem(code, str(error))
    log.error("%s: %s", type(error).__name__, error)
    if isinstance(error, OutputError):
        return storage_full()
    if isinstance(error, CheckpointError):
        return Problem("model-unavailable", "the model's weights cannot be used: see the service's log")
    return Problem("internal-error", "this is no fault of the request: see the service's log")


def storage_full() -> Problem:
    """Make the problem of a full or unwritable disk. The problem names no path: paths are for the log only."""
    return Problem("storage-full", "the work cannot be stored: the operator must look at the data folder's free space")


def invalid_field(name: str, message: str) -> Problem:
    """Make the problem of a field whose value is impossible for this scan or this service."""
    return Problem("invalid-request", f"{name}: {message}", errors=[{"field": name, "message": message}])


def invalid_request(
    error: ValidationError | RequestValidationError, *, valid: Mapping[str, Any] | None = None
) -> Problem:
    """Turn a failed validation into a problem with one entry in `errors` for each field, and no value."""
    errors = [
        {"field": ".".join(str(part) for part in one["loc"]) or "(request)", "message": _plain(one)}
        for one in error.errors()
    ]
    detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
    return Problem("invalid-request", detail, errors=errors, **(valid or {}))


def install(app: FastAPI) -> None:
    """Turn every error of the application into a problem document. The middleware handles unexpected errors."""

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> JSONResponse:
        return respond(error, request.state.request_id)

    @app.exception_handler(MriReconError)
    async def _library(request: Request, error: MriReconError) -> JSONResponse:
        return respond(problem_of(error), request.state.request_id)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return respond(invalid_request(error), request.state.request_id)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        code = _BY_STATUS.get(error.status_code, "internal-error" if error.status_code >= 500 else "malformed-body")
        detail = {
            "not-found": "nothing is at this address: see /docs for the addresses",
            "method-not-allowed": f"this address does not take {request.method}: use one of the methods in Allow",
        }.get(code, str(error.detail))
        return respond(Problem(code, detail, headers=error.headers), request.state.request_id)


def shown(text: str) -> str:
    """Escape and shorten a client's text for a message."""
    return ascii(text[:60])


def _plain(error: Mapping[str, Any]) -> str:
    """Take the message of an error of Pydantic, without the prefix for validators, and with the nearest valid word."""
    message: str = error["msg"].removeprefix("Value error, ")
    return message + did_you_mean_word(error)
