"""Serve `GET /v1/models`: the models and methods that a request may name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from mri_recon._system.jsonable import jsonable
from mri_recon.methods.table import method_names, method_options, method_summary
from mri_recon.models.checkpoint import ModelCard, load_named, shipped_models
from mri_recon_service.http.openapi import problem_responses
from mri_recon_service.schemas import Marked

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["models"])


class MethodInfo(BaseModel):
    """A registered reconstruction method."""

    name: str = Field(description="Name of the method.")
    summary: str = Field(description="The method in one sentence.")
    options: dict[str, Any] = Field(description="Options and their defaults.")


class Models(Marked):
    """The models and methods that a request may name."""

    models: list[ModelCard] = Field(
        description="Model cards of the shipped weights; the option `model` takes the names."
    )
    methods: list[MethodInfo] = Field(description="The methods, those of other installed packages too.")


@router.get("/models", operation_id="list_models", responses=problem_responses("model-unavailable"))
def models() -> Models:
    """List the model cards of the shipped weights, and the registered methods with their options."""
    return Models(
        models=[load_named(name).card for name in shipped_models()],
        methods=[_method(name) for name in method_names()],
    )


def _method(name: str) -> MethodInfo:
    return MethodInfo(name=name, summary=method_summary(name), options=jsonable(method_options(name)))
