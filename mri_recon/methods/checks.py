"""Name the checks of a reconstruction, and say what each costs."""

from __future__ import annotations

from mri_recon._system.nearest import did_you_mean
from mri_recon.errors import MethodError

__all__ = ["CHECKS", "HOLDOUT", "check_name", "num_runs"]

HOLDOUT = "holdout"

CHECKS = (HOLDOUT,)
"""Names of the checks that `reconstruct` takes."""


def check_name(check: str | None) -> None:
    """Refuse an unknown check.

    Raises:
        MethodError: not one of `CHECKS`, nor None.
    """
    if check is not None and check not in CHECKS:
        raise MethodError(
            f"expected check to be one of {', '.join(CHECKS)} or None, got {check!r}{did_you_mean(check, CHECKS)}: "
            "choose one of them"
        )


def num_runs(check: str | None) -> int:
    """Count how often the method runs: once, and with the hold-out check once more on every fold.

    The two references of the check, zero-filled and CG-SENSE, come on top. They cost little.

    Args:
        check: name of the check; None for no check.

    Raises:
        MethodError: an unknown check.
    """
    from mri_recon.masks.folds import NUM_FOLDS  # imported here, so that naming the checks does not import NumPy

    check_name(check)
    return 1 if check is None else 1 + NUM_FOLDS
