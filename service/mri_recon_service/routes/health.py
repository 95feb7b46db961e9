"""Serve `/health/live` and `/health/ready`, for supervisors and load balancers."""

from __future__ import annotations

from fastapi import APIRouter

from mri_recon_service.dependencies import ReadinessDep
from mri_recon_service.http.openapi import problem_responses
from mri_recon_service.problems import Problem
from mri_recon_service.schemas import Live, Ready

__all__ = ["router"]

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> Live:
    """Tell that the process answers."""
    return Live()


@router.get("/ready", responses=problem_responses("not-ready"))
async def ready(readiness: ReadinessDep) -> Ready:
    """Tell whether every shipped model is loaded and has run once. Until then: 503 with the reason."""
    if readiness.reason is not None:
        raise Problem("not-ready", readiness.reason, headers={"Retry-After": "2"})
    return Ready(models=readiness.models)
