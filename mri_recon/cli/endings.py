"""End a verb that fails: one line on stderr, and the exit status."""

from __future__ import annotations

import os
import traceback
from typing import NoReturn

from mri_recon._system.reasons import DEBUG, explain
from mri_recon.cli.interrupts import was_interrupted
from mri_recon.cli.messages import say
from mri_recon.cli.streams import BROKEN_PIPE

__all__ = ["Told", "end"]


class Told(SystemExit):
    """End the process, after the message on stderr."""

    told = True


def end(error: BaseException) -> NoReturn:
    """End the process for an error of a verb.

    Raises:
        Told: always. Status 2: the work cannot be done, due to an `MriReconError`, the disk, the memory or a fault of
            the program; 130: interrupted; 141: nobody reads standard output.
    """
    if isinstance(error, BrokenPipeError):
        raise Told(BROKEN_PIPE) from None
    if isinstance(error, KeyboardInterrupt) or was_interrupted():
        hint = f": {error}" if isinstance(error, KeyboardInterrupt) and str(error) else ""
        say(f"interrupted{hint}")
        raise Told(130) from None
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    say(f"error: {explain(error)}")
    raise Told(2) from None
