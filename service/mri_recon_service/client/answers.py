"""Tell answers of mri-recon from those of others, and turn the refusing ones into errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mri_recon._system.text import printable
from mri_recon_service.client.errors import (
    AccessError,
    BusyError,
    ForeignServerError,
    JobCancelledError,
    JobFailedError,
    ServiceError,
)
from mri_recon_service.client.wire import Answer

__all__ = ["document_of", "error_of", "job_error", "passing", "problem_of", "retry_after"]

_MARK = "x-research-only"
"""A header of every answer of the service."""

_PROBLEM = "application/problem+json"
_PASSING_PROBLEMS = frozenset({"busy", "not-ready", "stopping"})
_PASSING_STATUSES = frozenset({429, 502, 503, 504})  # of proxies, while the service behind them restarts
_ACCESS = frozenset({"unauthorized", "forbidden-origin", "unknown-host"})
_LONGEST = 200


def problem_of(answer: Answer) -> dict[str, Any] | None:
    """Return the problem document of a refusing answer of the service; None if the answer is another one's."""
    if answer.status < 400 or not answer.headers.get("content-type", "").startswith(_PROBLEM):
        return None
    try:
        document = json.loads(answer.content)
    except ValueError:
        return None
    return document if isinstance(document, dict) and "code" in document else None


def passing(answer: Answer) -> bool:
    """Tell whether the same request may be answered otherwise a little later."""
    problem = problem_of(answer)
    if problem is None:
        return answer.status in _PASSING_STATUSES
    return problem["code"] in _PASSING_PROBLEMS


def retry_after(answer: Answer) -> float | None:
    """Read `Retry-After`: the seconds to wait, at least 0; None if the answer does not say."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # TypeError: a time without a zone
        return None


def error_of(answer: Answer, address: str, *, has_key: bool) -> ServiceError | None:
    """Return the error of an answer; None if the service gives what was asked for.

    Args:
        answer: the answer.
        address: address of the service, for messages.
        has_key: whether the client has sent a key.
    """
    problem = problem_of(answer)
    if problem is not None:
        return _refusal(answer, problem, has_key=has_key)
    if 300 <= answer.status < 400:
        target = printable(answer.headers.get("location", "another address"))[:_LONGEST]
        return ForeignServerError(
            f"expected an answer of mri-recon at {address}, got a redirection to {target}: the client follows none, "
            "for the key must not reach another host; name the final address",
            status=answer.status,
        )
    if answer.status >= 400 or _MARK not in answer.headers:
        kind = printable(answer.headers.get("content-type", "") or "no type")[:60]
        return ForeignServerError(
            f"expected an answer of mri-recon at {address}, got {answer.status} {answer.reason} ({kind}): "
            "check the address, and the proxy if there is one",
            status=answer.status,
        )
    return None


def job_error(document: Mapping[str, Any]) -> ServiceError | None:
    """Return the error of a job that has ended without a result; None for any other job."""
    job_id = str(document["id"])
    if document["status"] == "cancelled":
        return JobCancelledError(
            f"the job {job_id} was cancelled: send the request again if its result is wanted",
            members={"code": "job-cancelled"},
            job_id=job_id,
        )
    if document["status"] != "failed":
        return None
    problem = document.get("problem") or {"code": "internal-error", "detail": "the service gives no reason"}
    return JobFailedError(_message(problem), status=problem.get("status"), members=problem, job_id=job_id)


def document_of(answer: Answer, address: str) -> dict[str, Any]:
    """Read the JSON object of an answer.

    Raises:
        ForeignServerError: there is none.
    """
    try:
        document = json.loads(answer.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ForeignServerError(
            f"expected a JSON object of mri-recon at {address}, got something else: check the address",
            status=answer.status,
        )
    return document


def _refusal(answer: Answer, problem: Mapping[str, Any], *, has_key: bool) -> ServiceError:
    code = problem["code"]
    if code == "unauthorized" and not has_key:
        message = "the service needs an API key: pass key=..., which the operator makes by `mri-recon key add`"
        return AccessError(message, status=answer.status, members=problem)
    if code in _ACCESS:
        return AccessError(_message(problem), status=answer.status, members=problem)
    if code in _PASSING_PROBLEMS:
        return BusyError(_message(problem), status=answer.status, members=problem)
    if code == "job-cancelled":
        return JobCancelledError(_message(problem), status=answer.status, members=problem)
    return ServiceError(_message(problem), status=answer.status, members=problem)


def _message(problem: Mapping[str, Any]) -> str:
    request_id = problem.get("request_id")
    return f"{problem.get('detail')} [{problem['code']}{f', request {request_id}' if request_id else ''}]"
