"""Hand routes the parts of the application, as annotated types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.settings import Settings
from mri_recon_service.uploads.receive import UploadGate

if TYPE_CHECKING:
    from mri_recon.methods.estimates import Estimates
    from mri_recon_service.jobs.engine import Engine
    from mri_recon_service.readiness import Readiness
    from mri_recon_service.uploads.parser_pool import ParserPool
else:  # FastAPI needs the names alone, and what they stand for loads PyTorch
    Engine = Estimates = ParserPool = Readiness = Any

__all__ = ["EngineDep", "EstimatesDep", "MetricsDep", "ParserDep", "ReadinessDep", "SettingsDep", "UploadGateDep"]


def _part(name: str) -> Any:
    """Depend on a part of the application's state, which `app.create_app` and its lifespan set."""

    def find(request: Request) -> Any:
        return getattr(request.app.state, name)

    return Depends(find)


SettingsDep = Annotated[Settings, _part("settings")]
EngineDep = Annotated[Engine, _part("engine")]
ReadinessDep = Annotated[Readiness, _part("readiness")]
ParserDep = Annotated[ParserPool, _part("parser")]
UploadGateDep = Annotated[UploadGate, _part("gate")]
MetricsDep = Annotated[Metrics, _part("metrics")]
EstimatesDep = Annotated[Estimates, _part("estimates")]
