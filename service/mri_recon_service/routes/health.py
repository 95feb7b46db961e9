"""Serve `/health/live` and `/health/ready`, for supervisors and load balancers."""

from __future__ import annotations

from fastapi import APIRouter

from mri_recon_service.dependencies import EngineDep, ParserDep, ReadinessDep
from mri_recon_service.http.openapi import problem_responses
from mri_recon_service.schemas import Live, Ready

__all__ = ["router"]

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", operation_id="get_liveness")
async def live() -> Live:
    """Tell that the process answers."""
    return Live()


@router.get("/ready", operation_id="get_readiness", responses=problem_responses("not-ready"))
def ready(readiness: ReadinessDep, engine: EngineDep, parser: ParserDep) -> Ready:
    """Tell whether every shipped model has run once, and the store of jobs can be used. If not: 503 with the reason."""
    readiness.check(engine.store, engine.files)
    return Ready(models=readiness.models, audit=readiness.audit(), sandbox_lacks=parser.lacks)
