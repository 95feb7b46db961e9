"""The command as a process: streams of every kind, interrupts at any time, errors that nobody expected."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mri_recon.cli import COMMAND_GROUP, build_app
from mri_recon.cli.endings import DEBUG, Told, end
from mri_recon.errors import DataError
from tests.support.patience import PATIENCE

PROGRAM = [sys.executable, "-m", "mri_recon.cli"]
# Verbs that print and import no torch.
LIGHT = [["--help"], ["--version"], ["data", "list"], ["data", "sample"], ["key", "add", "--help"]]


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        env={**os.environ, "P": " ".join(PROGRAM), **environment},
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_any_standard_output(arguments: list[str]) -> None:
    verb = " ".join(arguments)
    # Where the text is buffered, the end of the process may find the disk full, else the print itself.
    for buffered in ("", "1"):
        full = shell(f"$P {verb} > /dev/full", PYTHONUNBUFFERED=buffered)
        assert full.returncode == 2
        (line,) = full.stderr.decode().splitlines()
        assert line.startswith("mri-recon: error: ")
        assert "No space left on device" in line
    for closed in (">&-", ">&- 2>&-", "<&- >&- 2>&-"):
        done = shell(f"$P {verb} {closed}")
        assert (done.returncode, done.stderr) == (0, b"")
    both = shell(f"$P {verb} > /dev/full 2>&1")
    assert (both.returncode, both.stdout) == (2, b"")
    ascii_only = shell(f"$P {verb}", PYTHONIOENCODING="ascii")
    assert ascii_only.returncode == 0
    ascii_only.stdout.decode("ascii")


def test_a_pipe_that_nobody_reads_ends_the_command_quietly() -> None:
    for verb in ("--help", "data list"):
        done = shell(f"$P {verb} | true; echo ${{PIPESTATUS[0]}}")
        assert done.stdout.decode().strip() in ("141", "0")  # 0 where all was written before `true` ended
        assert done.stderr == b""
    read, write = os.pipe()
    os.close(read)  # for sure
    for verb in (["--help"], ["data", "list"], ["data", "sample"]):
        ended = subprocess.run([*PROGRAM, *verb], stdout=write, stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
        assert (ended.returncode, ended.stderr) == (141, b"")
    os.close(write)


def test_a_file_name_is_printed_whatever_its_bytes(tmp_path: Path) -> None:
    """Letters as they are where the terminal can show them; what is no text, or would move the cursor, escaped."""
    absent = os.fsencode(tmp_path) + b"/caf\xc3\xa9 \xff\x1b[2J.npy"
    for encoding, shown in (("utf-8", b"caf\xc3\xa9 \\xff\\x1b[2J.npy"), ("ascii", b"caf\\xe9 \\xff\\x1b[2J.npy")):
        done = subprocess.run(
            [*PROGRAM, "info", absent],
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"},
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.count(b"\n") == 1
        assert shown in done.stderr


INTERRUPTED = """
import sys
import mri_recon.cli
process = sys.modules["mri_recon.cli.main"]
prepare = process.prepare_streams
def prepared():  # the handler of interrupts stands
    prepare()
    print("ready", flush=True)
process.prepare_streams = prepared
sys.argv = ["mri-recon", *sys.argv[1:]]
mri_recon.cli.main()
"""


def _heed_interrupts() -> None:
    """What a shell starts in the background ignores interrupts, and so does whatever runs the tests then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("wait", [0.0, 0.02, 0.1, 0.3, 0.6, 1.0, 1.7, 2.5])
def test_an_interrupt_at_any_time_is_one_line(wait: float, tmp_path: Path) -> None:
    """While the command, torch or the file is loaded, and while it computes; nothing is written."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "k.npy", (rng.normal(size=(12, 3, 200, 200)) + 1j).astype(np.complex64))
    verb = ["reconstruct", tmp_path / "k.npy", "--method", "cs-wavelet", "--acceleration", "4"]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *verb, "-o", tmp_path / "out.h5", "--option", "max_iters=100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_heed_interrupts,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(wait)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, out) == (130, b""), err
    assert err.decode().splitlines()[-1] == "mri-recon: interrupted"
    assert b"Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["k.npy"]


SWALLOWING = """
import os, signal, typer
from mri_recon.cli.progress import working
def odd(context: typer.Context, kind: str) -> None:
    work = context.with_resource(working("starting"))
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except KeyboardInterrupt:
        if kind == "other":
            raise ImportError("numpy could not be imported")
    work.step("going on")
    print("done")
"""


@pytest.mark.parametrize("kind", ["other", "none"])
def test_an_interrupt_that_a_library_takes_for_something_else(kind: str, tmp_path: Path) -> None:
    _plug_in(tmp_path, SWALLOWING)
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*PROGRAM, "odd", kind],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        preexec_fn=_heed_interrupts,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "mri-recon: interrupted\n")


_COMPUTES = """
import atexit, threading, torch
import mri_recon.cli.app
from mri_recon.cli.main import main

begun = threading.Event()

def compute():
    one = torch.ones(99, 99, dtype=torch.complex64)
    while True:
        torch.fft.fft2(one)
        begun.set()

def verb(**_):
    atexit.register(print, "tidied up", flush=True)
    threading.Thread(target=compute, daemon=True).start()
    begun.wait()
    {ending}

mri_recon.cli.app.build_app = lambda: verb
main()
"""


@pytest.mark.parametrize(("ending", "status"), [("pass", 0), ("raise KeyboardInterrupt", 130)])
def test_a_thread_that_still_computes_does_not_change_the_status(ending: str, status: int) -> None:
    """Torch aborts when the interpreter ends below it."""
    command = [sys.executable, "-c", _COMPUTES.format(ending=ending)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (status, "tidied up\n"), done.stderr
    assert "terminate" not in done.stderr


def test_a_process_that_ignores_interrupts_goes_on_ignoring_them() -> None:
    """As under nohup, or in the background of a script."""
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)" + INTERRUPTED
    with subprocess.Popen([sys.executable, "-c", ignoring, "data", "list"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=PATIENCE)
    assert child.returncode == 0
    assert b"Registered open data sets" in out


@given(st.text(max_size=80), st.sampled_from([KeyError, ValueError, RuntimeError, AssertionError, RecursionError]))
@settings(max_examples=50, deadline=None)
def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(text: str, kind: type[Exception]) -> None:
    told = io.StringIO()
    with contextlib.redirect_stderr(told), pytest.raises(Told) as ended:
        end(kind(text))
    assert ended.value.code == 2
    (line,) = told.getvalue().split("\n")[:-1]
    assert re.match(rf"mri-recon: error: unexpected {kind.__name__}", line)
    assert line.endswith(f"a fault of the program, please report it with the output of {DEBUG}=1")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "expected enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "expected enough memory",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "expected enough memory"),
        (DataError("expected a,\n  got b: do c"), "expected a, got b: do c"),
        (PermissionError(13, "Permission denied", "x.h5"), "Permission denied: x.h5"),
        (OSError("plain"), "plain"),
    ],
)
def test_an_error_of_the_machine_is_one_line(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Told):
        end(error)
    told = capsys.readouterr().err
    assert told.startswith(f"mri-recon: error: {line}")
    assert told.count("\n") == 1


def test_the_traceback_is_to_be_had(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(Told):
        end(KeyError("x"))
    lines = capsys.readouterr().err.splitlines()
    assert "KeyError: 'x'" in lines
    assert lines[-1].startswith("mri-recon: error: unexpected KeyError")


def _plug_in(folder: Path, source: str) -> None:
    (folder / "odd_verbs.py").write_text(source)
    information = folder / "odd_verbs-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-verbs\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{COMMAND_GROUP}]\nodd = odd_verbs:odd\n")


ODD = """
import sys, warnings, os
def odd(kind: str) -> None:
    if kind == "bug":
        {}["absent"]
    if kind == "warning":
        warnings.warn("a library says\\n  something", UserWarning)
        print("done")
    if kind == "interrupt":
        raise KeyboardInterrupt("go on with --resume x")
"""


def test_a_fault_of_a_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plug_in(tmp_path, ODD)
    monkeypatch.syspath_prepend(tmp_path)
    result = CliRunner().invoke(build_app(), ["odd", "bug"])
    assert result.exit_code == 2
    assert result.stderr.startswith("mri-recon: error: unexpected KeyError: 'absent': a fault of the program")
    result = CliRunner().invoke(build_app(), ["odd", "interrupt"])
    assert result.exit_code == 130
    assert result.stderr == "mri-recon: interrupted: go on with --resume x\n"


def test_a_warning_of_a_library_is_one_line(tmp_path: Path) -> None:
    _plug_in(tmp_path, ODD)
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*PROGRAM, "odd", "warning"], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr == "mri-recon: warning: a library says something\n"


TERMINATED = """
import os, signal, sys, typer
from pathlib import Path
from mri_recon._system import files as _files
from mri_recon.cli import app, main

number = int(sys.argv.pop())
real = os.fsync

def ended(descriptor):
    os.kill(os.getpid(), number)
    signal.pause()

def verb(file: Path) -> None:
    os.fsync = ended
    _files.write_atomically(file, b"new")

app.verbs.info = verb
verb.__name__ = "info"
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=str)
@pytest.mark.parametrize("exists", [True, False])
def test_a_signal_that_ends_the_process_leaves_no_half_file(number: int, exists: bool, tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    if exists:
        target.write_bytes(b"old")
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED, "info", str(target), str(int(number))],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == -number  # as without a handler: whoever waits sees the signal
    assert done.stderr.decode() == f"mri-recon: ended by {signal.Signals(number).name}\n"
    assert sorted(tmp_path.iterdir()) == before
    assert not exists or target.read_bytes() == b"old"


def test_a_signal_that_is_ignored_stays_so() -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    check = "from mri_recon.cli.interrupts import handle_termination as h; h(); print(signal.getsignal(signal.SIGHUP))"
    done = subprocess.run([sys.executable, "-c", ignoring + check], capture_output=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == str(signal.SIG_IGN).encode()
