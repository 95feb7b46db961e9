"""Serve `POST /v1/compare`: reconstruct the same undersampled scan with several methods."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from mri_recon_service.answers.rendering import NPZ
from mri_recon_service.dependencies import EngineDep, SettingsDep, UploadGateDep
from mri_recon_service.http.openapi import job_accepted, problem_responses, upload_request
from mri_recon_service.jobs.submission import submit
from mri_recon_service.problems import UPLOAD_CODES
from mri_recon_service.schemas import CompareFields, ComparisonAnswer

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["reconstruction"])

_ANSWER = {
    "description": "Metrics and pictures as JSON, or an npz bundle: `image.METHOD`, `reference` if one is known, "
    "`mask`, `kspace` (decadic logarithm of its magnitude over the largest one) and `metadata` (JSON).",
    "content": {NPZ: {"schema": {"type": "string", "format": "binary"}}},
}


@router.post(
    "/compare",
    operation_id="compare",
    response_model=ComparisonAnswer,
    responses={200: _ANSWER, 202: job_accepted(), **problem_responses("not-acceptable", *UPLOAD_CODES)},
    openapi_extra=upload_request(CompareFields, job=True),
)
async def compare(request: Request, settings: SettingsDep, engine: EngineDep, gate: UploadGateDep) -> Response:
    """Reconstruct an uploaded scan with each method. Returns pictures, and metrics if a reference is known."""
    return await submit(request, "comparison", engine, gate, settings)
