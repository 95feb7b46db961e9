"""Warm the service up: load every shipped model, and run it once."""

from __future__ import annotations

import logging
import threading
from typing import Literal

import torch

from mri_recon.errors import MriReconError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.methods.networks import method_of
from mri_recon.methods.table import method_names
from mri_recon.models.checkpoint import load_named, shipped_models
from mri_recon.reconstruction import reconstruct
from mri_recon_service.http.audit import AuditLog
from mri_recon_service.problems import Problem
from mri_recon_service.storage.file_store import FileStore
from mri_recon_service.storage.store import JobStore, StoreFault

__all__ = ["NotReady", "Readiness", "not_ready"]

NotReady = Literal["models-loading", "model-failed", "audit-failed", "files-failed"] | StoreFault
"""Kind of the reason why the service is not ready."""

log = logging.getLogger("mri_recon_service")

_WARM_SIZE = 64
_STORE: dict[StoreFault, str] = {
    "store-busy": "another process keeps the store of jobs from changes",
    "store-failed": "the store of jobs cannot be read or changed: see the service's log",
}


class Readiness:
    """State of the warm-up, which runs in a thread beside the first requests, and of the audit log.

    Attributes:
        models: names of the models that are warm.
        reason: why the models are not ready; None when they are.
        kind: kind of the reason, "models-loading" or "model-failed".
    """

    def __init__(self, device: str, audit: AuditLog | None = None, *, computes: bool = True) -> None:
        self.models: list[str] = []
        self._computes = computes
        self.reason: str | None = "the models are being loaded"
        self.kind: NotReady = "models-loading"
        self._device = device
        self._audit = audit

    def start(self) -> None:
        """Start the warm-up in a thread that does not keep the process alive."""
        threading.Thread(target=self.warm, name="warm-up", daemon=True).start()

    def warm(self) -> None:
        """Load each model and let it reconstruct a small image, so that the first user does not wait for it."""
        try:
            for name in shipped_models() if self._computes else ():
                self._warm_model(name)
                self.models.append(name)
        except MriReconError as error:
            self.kind = "model-failed"
            self.reason = f"a model cannot be loaded: {error}"
            log.error("warm-up: %s", self.reason)
        except Exception:
            self.kind = "model-failed"
            self.reason = "a model failed in its first run: see the service's log"
            log.exception("warm-up failed")
        else:
            self.reason = None
            log.info("ready, models: %s", ", ".join(self.models) or "none")

    def check(self, store: JobStore, files: FileStore) -> None:
        """Return if the models are warm, jobs and their files can be kept, and audit lines can be written, or need not.

        Blocks for some seconds at most.

        Raises:
            Problem: not-ready, with `reason`, the kind of the reason.
        """
        if self.reason is not None:
            raise not_ready(self.reason, self.kind)
        fault = store.fault()
        if fault is not None:
            raise not_ready(_STORE[fault], fault)
        if not files.works():
            raise not_ready("the files of jobs cannot be written: see the service's log", "files-failed")
        if self._audit is not None and self._audit.refuses and self.audit() == "failing":
            raise not_ready("audit lines cannot be written: see the service's log", "audit-failed")

    def audit(self) -> Literal["off", "written", "failing"]:
        """Tell whether audit lines can be written."""
        if self._audit is None:
            return "off"
        return "written" if self._audit.fault() is None else "failing"

    def holds(self, store: JobStore, files: FileStore) -> bool:
        """Tell whether `check` returns."""
        try:
            self.check(store, files)
        except Problem:
            return False
        return True

    def _warm_model(self, name: str) -> None:
        loaded = load_named(name, device=self._device)
        method = method_of(loaded.card.architecture, loaded.network)
        if method in method_names():
            mask = random_mask(_WARM_SIZE, 4, seed=0)
            kspace = undersample(torch.ones(1, 1, _WARM_SIZE, _WARM_SIZE, dtype=torch.complex64), mask)
            reconstruct(kspace, mask, method=method, device=self._device, model=name)


def not_ready(reason: str, kind: NotReady) -> Problem:
    """Make the problem of a service that is not ready."""
    return Problem("not-ready", reason, headers={"Retry-After": "2"}, reason=kind, error=reason)
