"""Run the console script: streams, signals and exit status of the process around the command.

The command is imported inside `main`, so that an interrupt has a handler before the slow imports.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import warnings
from typing import NoReturn

from mri_recon.cli.interrupts import Terminated, handle_interrupts, handle_termination, was_interrupted
from mri_recon.cli.messages import PROGRAM, say, warn
from mri_recon.cli.streams import close_streams, prepare_streams

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command with the arguments of this process and end the process.

    The exit status is 0 on success, 1 if `replay` finds a difference, 2 if the work cannot be done, 130 after an
    interrupt, and 141 if the reader of standard output went away. SIGTERM and SIGHUP end the process as by default,
    after half-written files are removed.
    """
    status = 0
    # Read by torch's OpenMP, which is not imported yet. With this setting, waiting threads spin for microseconds and
    # then sleep. By default they spin for milliseconds, and on a busy machine seconds of work take a minute. If they
    # slept at once, a quiet machine would take more than twice as long.
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
        os.kill(os.getpid(), ending.number)  # the parent process sees the signal, as without a handler
        status = 128 + ending.number
    except Exception:  # an import broken by an interrupt; all other errors of verbs have ended as SystemExit
        if not was_interrupted():
            raise
        say("interrupted")
        status = 130
    except SystemExit as ending:
        status = _number(ending.code)
        if status == 130 and not getattr(ending, "told", False):  # while the arguments are parsed
            say("interrupted")
    # A second interrupt ends a process that hangs.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _exit(close_streams(status))


def _exit(status: int) -> NoReturn:
    """End the process. Where threads still compute, skip what the interpreter does last: torch would abort then."""
    if any(one.daemon for one in threading.enumerate()):
        atexit._run_exitfuncs()
        os._exit(status)
    sys.exit(status)


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
    """Print a Python warning of any library in one line, instead of two with the name of a source file."""
    warn(str(message))
    if os.environ.get("MRI_RECON_DEBUG"):
        warn(f"the above is a {category.__name__} from {filename}:{lineno}")
