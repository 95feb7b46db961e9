"""Checks before a long evaluation: refuses weights trained on a test subject, and runs every method once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mri_recon.errors import ConfigError, MethodError, MriReconError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.methods.candidate import parse_candidates
from mri_recon.methods.table import method_options
from mri_recon.models.checkpoint import load_named, shipped_models
from mri_recon.reconstruction import reconstruct
from mri_recon.results.comparison import check_methods
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.simulation.kspace import coil_maps, complex_noise, smooth_phase

__all__ = ["check_unseen", "try_methods"]

_SIZE = (96, 80)
_ACCELERATION = 4
_SIGMA = 0.01


def check_unseen(
    methods: Sequence[str], persons: Collection[str], options: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Check by the model cards that no network, those of `auto` included, was trained on a subject it is evaluated on.

    Args:
        methods: names of methods.
        persons: subjects of the scans.
        options: method to its options; `model` tells the weights.

    Raises:
        ConfigError: a network was trained on one of them.
        CheckpointError: unknown or damaged weights.
    """
    chosen = options or {}
    runs = [(method, chosen.get(method, {})) for method in methods if method != "auto"]
    if "auto" in methods:
        texts = chosen.get("auto", {}).get("candidates", method_options("auto")["candidates"])
        runs += [(one.method, one.options) for one in parse_candidates(texts)]
    for method, given in runs:
        if method not in shipped_models():
            continue  # no network, or one of another package, whose cards are its own
        card = load_named(str(given.get("model", method))).card
        seen = {person for rows in card.data if rows.get("split") == "train" for person in rows.get("persons", ())}
        known = sorted(seen.intersection(persons))
        if known:
            raise ConfigError(
                f"{method}: expected weights that were not trained on the persons they are measured on, got "
                f"{card.name}, which knows {', '.join(known)}: take weights trained with data.hold_out and --person, "
                "or another split"
            )


def try_methods(
    methods: Sequence[str],
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    num_coils: Sequence[int] = (1,),
    device: str | torch.device | None = None,
) -> dict[str, dict[str, Any]]:
    """Run every method on a noisy ellipse of 96x80; gives each one's `info` (of the last number of coils).

    Raises:
        MethodError: an unknown method or option, or a method that fails.
        MriReconError: any error of a method, e.g. CheckpointError for missing weights.
    """
    chosen = dict(options or {})
    check_methods(methods, chosen)
    found: dict[str, dict[str, Any]] = {}
    for coils in num_coils:
        mask = random_mask(_SIZE[1], _ACCELERATION)
        kspace = undersample(_phantom(coils), mask)
        for name in methods:
            try:
                found[name] = reconstruct(kspace, mask, method=name, device=device, **chosen.get(name, {})).info
            except MriReconError:
                raise
            except Exception as error:
                raise MethodError(
                    f"method {name!r} fails on a small phantom ({type(error).__name__}: {error}): "
                    "repair it or leave it out"
                ) from error
    return found


def _phantom(num_coils: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    y, x = (np.linspace(-1, 1, n) for n in _SIZE)
    ellipse = ((y[:, None] / 0.8) ** 2 + (x[None, :] / 0.6) ** 2 < 1).astype(np.float32)
    phase = torch.from_numpy(smooth_phase(_SIZE, rng, strength=0.5))
    image = torch.polar(torch.from_numpy(ellipse), phase)
    maps = torch.from_numpy(coil_maps(num_coils, _SIZE, rng))
    noise = complex_noise((num_coils, *_SIZE), rng, sigma=_SIGMA)
    return fft2c(maps * image + noise)[None].to(torch.complex64)
