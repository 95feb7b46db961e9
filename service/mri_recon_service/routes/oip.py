"""Serve `/v2`: health and model metadata of the Open Inference Protocol (KServe V2).

The protocol has neither complex numbers nor files, so inference itself is not served here: `parameters` names its
address. An error has the member `error` of the protocol beside those of every problem.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Path

from mri_recon._system.nearest import did_you_mean
from mri_recon.methods.networks import method_of
from mri_recon.models.checkpoint import load_named, shipped_models
from mri_recon.notice import RESEARCH_ONLY
from mri_recon_service.dependencies import EngineDep, ReadinessDep
from mri_recon_service.http.openapi import problem_responses
from mri_recon_service.problems import Problem, shown
from mri_recon_service.readiness import not_ready
from mri_recon_service.schemas import (
    InferenceLive,
    InferenceModel,
    InferenceModelReady,
    InferenceReady,
    InferenceServer,
    InferenceTensor,
)

__all__ = ["router"]

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

ModelName = Annotated[str, Path(description="Name of a shipped model.", max_length=100)]

_NOT_READY = problem_responses("not-ready")
_MODEL = problem_responses("unknown-inference-model", "not-ready", "model-unavailable")


@router.get("", operation_id="get_inference_server")
async def server() -> InferenceServer:
    """Return name and version of the server. It has no extensions of the protocol."""
    return InferenceServer(version=version("mri-recon"))


@router.get("/health/live", operation_id="get_inference_liveness")
async def live() -> InferenceLive:
    """Tell that the process answers."""
    return InferenceLive()


@router.get("/health/ready", operation_id="get_inference_readiness", responses=_NOT_READY)
def ready(readiness: ReadinessDep, engine: EngineDep) -> InferenceReady:
    """Tell whether every shipped model has run once, and the store of jobs can be used. If not: 503 with the reason."""
    readiness.check(engine.store, engine.files)
    return InferenceReady()


@router.get("/models/{model_name}", operation_id="get_inference_model", responses=_MODEL)
def model(model_name: ModelName) -> InferenceModel:
    """Describe a shipped model, its inputs and its outputs."""
    _check_known(model_name)
    loaded = load_named(model_name)
    card, method = loaded.card, method_of(loaded.card.architecture, loaded.network)
    parameters = {"inference": "/v1/reconstructions", "method": method, "sha256": card.sha256}
    return InferenceModel(
        name=model_name,
        versions=[card.sha256[:12]],
        inputs=[
            # Complex numbers are a last axis of 2: the protocol has no complex type.
            InferenceTensor(name="kspace", datatype="FP32", shape=[-1, -1, -1, -1, 2]),
            InferenceTensor(name="mask", datatype="BOOL", shape=[-1]),
        ],
        outputs=[InferenceTensor(name="image", datatype="FP32", shape=[-1, -1, -1, 2])],
        parameters={**parameters, "research_only": RESEARCH_ONLY},
    )


@router.get("/models/{model_name}/ready", operation_id="get_inference_model_readiness", responses=_MODEL)
def model_ready(model_name: ModelName, readiness: ReadinessDep) -> InferenceModelReady:
    """Tell whether the model is loaded and has run once. Until then: 503."""
    _check_known(model_name)
    if model_name not in readiness.models:
        raise not_ready(readiness.reason or "the model was not loaded", readiness.kind)
    return InferenceModelReady(name=model_name)


def _check_known(name: str) -> None:
    if name not in shipped_models():
        valid = list(shipped_models())
        names = ", ".join(valid) or "(none installed)"
        detail = f"expected one of the models {names}, got {shown(name)}{did_you_mean(name, valid)}: take one of them"
        raise Problem("unknown-inference-model", detail, valid=valid, error=detail)
