"""Serve `GET /v1/models`: the models and methods that a request may name."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from mri_recon._system.jsonable import jsonable
from mri_recon.methods.table import method_names, method_options, method_summary
from mri_recon.models.checkpoint import ModelCard, load_named, shipped_models
from mri_recon_service.answers.image_files import IMAGE_FILES, INSTALL, installed_image_files
from mri_recon_service.answers.rendering import HDF5
from mri_recon_service.http.openapi import problem_responses
from mri_recon_service.schemas import Marked

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["models"])


class MethodInfo(BaseModel):
    """A registered reconstruction method."""

    name: str = Field(description="Name of the method.")
    summary: str = Field(description="The method in one sentence.")
    options: dict[str, Any] = Field(description="Options and their defaults.")


class FileFormat(BaseModel):
    """A format of files of a result, and whether this installation can write it."""

    suffix: str = Field(description="Suffix of the files.")
    media_type: str = Field(description="Media type for the header Accept.")
    available: bool = Field(description="Whether the library that the format needs is installed.")
    needs: str | None = Field(description="Command that installs what is missing on the server; null if nothing is.")


class Models(Marked):
    """The models and methods that a request may name, and the files in which an image can be had."""

    models: list[ModelCard] = Field(
        description="Model cards of the shipped weights; the option `model` takes the names."
    )
    methods: list[MethodInfo] = Field(description="The methods, those of other installed packages too.")
    formats: list[FileFormat] = Field(description="Files of the image of one method, also those that lack a library.")


@router.get("/models", operation_id="list_models", responses=problem_responses("model-unavailable"))
def models() -> Models:
    """List the model cards of the shipped weights, the registered methods with their options, and formats of files."""
    return Models(
        models=[load_named(name).card for name in shipped_models()],
        methods=[_method(name) for name in method_names()],
        formats=_formats(),
    )


def _formats() -> list[FileFormat]:
    offered = (HDF5, *installed_image_files())
    suffixes = {HDF5: ".h5", **{media_type: one.suffix for media_type, one in IMAGE_FILES.items()}}
    return [
        FileFormat(
            suffix=suffix,
            media_type=media_type,
            available=media_type in offered,
            needs=None if media_type in offered else INSTALL,
        )
        for media_type, suffix in suffixes.items()
    ]


def _method(name: str) -> MethodInfo:
    return MethodInfo(name=name, summary=method_summary(name), options=jsonable(method_options(name)))
