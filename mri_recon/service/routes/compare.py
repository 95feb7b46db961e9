"""`POST /v1/compare`: several methods on the same undersampled scan."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request

from mri_recon.service.dependencies import SettingsDep, UploadGateDep, WorkersDep
from mri_recon.service.fields import compare_fields
from mri_recon.service.negotiation import choose
from mri_recon.service.openapi import problem_responses, upload_request
from mri_recon.service.pipeline import run_comparison
from mri_recon.service.problems import UPLOAD_CODES
from mri_recon.service.rendering import answer
from mri_recon.service.schemas import CompareFields, ComparisonAnswer

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["reconstruction"])


@router.post(
    "/compare",
    responses=problem_responses("not-acceptable", *UPLOAD_CODES),
    openapi_extra=upload_request(CompareFields),
)
async def compare(
    request: Request,
    settings: SettingsDep,
    workers: WorkersDep,
    gate: UploadGateDep,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> ComparisonAnswer:
    """Reconstruct an uploaded scan with each method: metrics where a reference is known, pictures."""
    choose(accept, ["application/json"])
    workers.refuse_if_full()
    upload = await gate.receive(request)
    with upload.removed_on_error():
        fields, methods, options = compare_fields(upload.fields, max_iters=settings.max_iters)

    def job() -> ComparisonAnswer:
        return answer(*run_comparison(upload.files, fields, methods, options, settings))

    return await workers.run(job, cleanup=upload.remove)
