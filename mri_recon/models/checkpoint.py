"""Read and write weights as safetensors with a JSON model card beside them, never as a pickle.

`NAME.safetensors` holds the tensors (bfloat16 or float32). `NAME.json` holds the card: architecture, training data and
their licences, intended use, and the SHA-256 of the weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from mri_recon._system.files import write_atomically
from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import CheckpointError
from mri_recon.models import Cascade, CascadeConfig, Unet, UnetConfig, Unrolled, UnrolledConfig
from mri_recon.models.training_range import Envelope
from mri_recon.notice import RESEARCH_ONLY

__all__ = [
    "LoadedModel",
    "ModelCard",
    "build_network",
    "load_checkpoint",
    "load_named",
    "save_checkpoint",
    "shipped_models",
]


class ModelCard(BaseModel):
    """Describe a set of weights: the facts that a user must know before trusting it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="name by which the option `model` selects the weights")
    architecture: str = Field(description="kind of the network")
    config: dict[str, Any] = Field(description="sizes of the network")
    description: str = Field(description="what the network does")
    intended_use: str = Field(default=RESEARCH_ONLY, description="notice about the use")
    envelope: Envelope = Field(description="range of inputs in the training")
    data: list[dict[str, Any]] = Field(description="sets: name, persons, licence, citation, kind (raw or simulated)")
    training: dict[str, Any] = Field(description="configuration, steps, seed, versions, device, duration")
    loss_curve: list[dict[str, float]] = Field(description="step, train_loss, validation metrics")
    results: dict[str, Any] = Field(default_factory=dict, description="validation results that chose these weights")
    sha256: str = Field(default="", description="SHA-256 of the .safetensors file")


@dataclass(frozen=True)
class LoadedModel:
    """Hold a network ready to run, with its card and the SHA-256 of its weights."""

    network: nn.Module
    card: ModelCard
    sha256: str


_ARCHITECTURES: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "unet": lambda config: Unet(UnetConfig(**config)),
    "unrolled": lambda config: Unrolled(UnrolledConfig(**config)),
    "cascade": lambda config: Cascade(CascadeConfig(**config)),
}


def build_network(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """Build the untrained network that a configuration describes.

    Raises:
        CheckpointError: unknown architecture, or a configuration that does not fit it.
    """
    build = _ARCHITECTURES.get(architecture)
    if build is None:
        raise CheckpointError(
            f"unknown architecture {architecture!r}{did_you_mean(architecture, _ARCHITECTURES)}: expected one of "
            f"{', '.join(_ARCHITECTURES)}"
        )
    try:
        return build(config)
    except ValidationError as error:
        raise CheckpointError(f"configuration of {architecture}: {_first_problem(error)}") from error


def save_checkpoint(
    path: Path, network: nn.Module, card: ModelCard, *, dtype: torch.dtype = torch.bfloat16
) -> ModelCard:
    """Write `path` (.safetensors) and the card beside it; return the card with the SHA-256 filled in.

    The weights are written before the card, so that every card describes complete weights.

    Raises:
        CheckpointError: a path that does not end in .safetensors.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"expected a path ending in .safetensors, got {path.name}: rename it")
    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
    # One metadata entry only: safetensors writes several in random order, but equal weights should give equal bytes.
    payload = save_tensors(tensors, metadata={"name": card.name})
    full = card.model_copy(update={"sha256": hashlib.sha256(payload).hexdigest()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, payload)
    text = json.dumps(full.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    write_atomically(path.with_suffix(".json"), text.encode())
    return full


def load_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> LoadedModel:
    """Load network and card from `path` (.safetensors, its card beside it), in float32, in evaluation mode.

    Raises:
        CheckpointError: a missing or damaged file, a wrong SHA-256, or weights that do not fit the card's network.
    """
    card_path = path.with_suffix(".json")
    for needed in (path, card_path):
        if not needed.is_file():
            raise CheckpointError(
                f"expected weights and model card side by side, {needed.name} is missing in {path.parent}"
            )
    card = read_card(card_path)
    payload = path.read_bytes()
    sha256 = hashlib.sha256(payload).hexdigest()
    if sha256 != card.sha256:
        raise CheckpointError(
            f"weights {path.name}: expected SHA-256 {card.sha256}, got {sha256}: the file is damaged or belongs to "
            "another card"
        )
    try:
        tensors: dict[str, Tensor] = load_tensors(payload)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"weights {path.name}: not a safetensors file ({error})") from error
    network = build_network(card.architecture, card.config)
    try:
        network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"weights {path.name} do not fit the network of its card: {error}") from error
    return LoadedModel(network.to(device).eval().requires_grad_(False), card, sha256)


def read_card(path: Path) -> ModelCard:
    """Read the model card (.json) that lies beside weights.

    Raises:
        CheckpointError: no card.
        OSError: a file that cannot be read.
    """
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"model card {path.name}: {_first_problem(error)}") from error


def shipped_models() -> dict[str, Path]:
    """List names and files of the weights that come with the package."""
    folder = Path(str(files("mri_recon") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def weights_file(model: str) -> Path:
    """Return the file of a shipped model, or `model` itself as a path."""
    return shipped_models().get(model) or Path(model)


def load_named(model: str, *, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a shipped model by name, or weights by the path of a `.safetensors` file, and keep them in memory.

    Raises:
        CheckpointError: neither a shipped name nor such a file.
    """
    shipped = shipped_models()
    path = weights_file(model)
    if model not in shipped and path.suffix != ".safetensors":
        raise CheckpointError(
            f"unknown model {model!r}{did_you_mean(model, shipped)}: expected one of "
            f"{', '.join(shipped) or '(none shipped)'} "
            "or a path ending in .safetensors"
        )
    stamp = path.stat().st_mtime_ns if path.is_file() else 0
    return _load_cached(path, stamp, str(device))


@lru_cache(maxsize=4)
def _load_cached(path: Path, stamp: int, device: str) -> LoadedModel:
    return load_checkpoint(path, device=device)


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "(top)"
    return f"{where}: {first['msg']}"
