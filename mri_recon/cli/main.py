"""Run the console script: streams, signals and exit status of the process around the command.

The command is imported inside `main`, so that an interrupt has a handler before the slow imports.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import NoReturn

from mri_recon.cli.interrupts import Terminated, handle_interrupts, handle_termination, was_interrupted
from mri_recon.cli.messages import PROGRAM, say, warn
from mri_recon.cli.streams import close_streams, prepare_streams

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command with the arguments of this process and end the process.

    The exit status is 0 for work that is done, 1 where `replay` finds a difference, 2 for what cannot be done, 130
    after an interrupt, 141 where the reader of standard output went away. SIGTERM and SIGHUP end the process as they do
    by default, after what is half written is removed.
    """
    status = 0
    # Read by torch's OpenMP, which is not imported yet. Threads that wait for each other spin for microseconds and then
    # sleep. By default they spin for milliseconds, and a machine that is busy with something else takes a minute for
    # seconds; where they sleep at once, a quiet machine takes more than twice as long.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        handle_interrupts()
        handle_termination()
        prepare_streams()
        warnings.showwarning = _show_warning
        from mri_recon.cli.app import build_app

        build_app()(prog_name=PROGRAM)
    except KeyboardInterrupt:
        say("interrupted")
        status = 130
    except Terminated as ending:
        say(f"ended by {ending}")
        os.kill(os.getpid(), ending.number)  # what waits for this process sees the signal, as without a handler
        status = 128 + ending.number
    except Exception:  # an import that an interrupt broke; whatever else a verb raises has ended as SystemExit
        if not was_interrupted():
            raise
        say("interrupted")
        status = 130
    except SystemExit as ending:
        status = _number(ending.code)
        if status == 130 and not getattr(ending, "told", False):  # while the arguments were read
            say("interrupted")
    # A second interrupt ends a process that does not come to its end.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(close_streams(status))


def _number(code: object) -> int:
    return 0 if code is None else code if isinstance(code, int) else 1


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """One line for a Python warning, of whichever library, in place of two that name a source file."""
    warn(str(message))
    if os.environ.get("MRI_RECON_DEBUG"):
        warn(f"the above is a {category.__name__} from {filename}:{lineno}")
