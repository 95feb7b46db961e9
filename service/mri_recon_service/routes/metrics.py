"""Serve `GET /metrics` for Prometheus."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response

from mri_recon_service.dependencies import MetricsDep
from mri_recon_service.http.openapi import problem_responses

__all__ = ["router"]

router = APIRouter(tags=["health"])

_ANSWER = {"description": "Text in Prometheus' format.", "content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get(
    "/metrics", operation_id="get_metrics", response_class=Response, responses={200: _ANSWER, **problem_responses()}
)
def metrics(found: MetricsDep, accept: Annotated[str | None, Header(include_in_schema=False)] = None) -> Response:
    """Return counts and times of requests, jobs, batches and parser processes, and the length of the queue."""
    content, content_type = found.exposition(accept)
    return Response(content, headers={"Content-Type": content_type})
