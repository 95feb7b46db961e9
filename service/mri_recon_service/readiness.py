"""Warm the service up: load every shipped model, and run it once."""

from __future__ import annotations

import logging
import threading

import torch

from mri_recon.errors import MriReconError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.methods.table import method_names
from mri_recon.models.checkpoint import load_named, shipped_models
from mri_recon.reconstruction import reconstruct

__all__ = ["Readiness"]

log = logging.getLogger("mri_recon_service")

_WARM_SIZE = 64


class Readiness:
    """State of the warm-up, which runs in a thread beside the first requests.

    Attributes:
        models: names of the models that are warm.
        reason: why the service is not ready; None when it is.
    """

    def __init__(self, device: str) -> None:
        self.models: list[str] = []
        self.reason: str | None = "the models are being loaded"
        self._device = device

    def start(self) -> None:
        """Start the warm-up in a thread that does not keep the process alive."""
        threading.Thread(target=self.warm, name="warm-up", daemon=True).start()

    def warm(self) -> None:
        """Load each model and let it reconstruct a small image, so that the first user does not wait for it."""
        try:
            for name in shipped_models():
                self._warm_model(name)
                self.models.append(name)
        except MriReconError as error:
            self.reason = f"a model cannot be loaded: {error}"
            log.error("warm-up: %s", self.reason)
        except Exception:
            self.reason = "a model failed in its first run: see the service's log"
            log.exception("warm-up failed")
        else:
            self.reason = None
            log.info("ready, models: %s", ", ".join(self.models) or "none")

    def _warm_model(self, name: str) -> None:
        method = load_named(name, device=self._device).card.architecture
        if method in method_names():
            mask = random_mask(_WARM_SIZE, 4, seed=0)
            kspace = undersample(torch.ones(1, 1, _WARM_SIZE, _WARM_SIZE, dtype=torch.complex64), mask)
            reconstruct(kspace, mask, method=method, device=self._device, model=name)
