"""How far a verb is goes to stderr alone: a bar on a terminal, lines at a modest rate elsewhere."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import mri_recon as mr
from mri_recon.cli.progress import FIRST_LINE, LINE_EVERY, Working, _bar, lines, working


def test_lines_come_at_a_modest_rate(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    show = lines(lambda: now)
    for step in range(400):  # 40 s, ten calls a second
        now = 100.0 + step / 10
        show("cs-wavelet: iteration", f"{step} (10 %)", 0.1)
    out, err = capsys.readouterr()
    assert out == ""
    told = err.splitlines()
    assert len(told) == 1 + int((39.9 - FIRST_LINE) // LINE_EVERY)
    assert told[0] == "mri-recon: cs-wavelet: iteration 50 (10 %), after 5 s"
    show("reading a.h5", "", None)
    now += 60
    show("reading a.h5", "", None)
    assert capsys.readouterr().err == "mri-recon: reading a.h5, after 100 s\n"
    now += 60
    show("files done:", "3 of 7", 3 / 7)
    assert capsys.readouterr().err == "mri-recon: files done: 3 of 7, after 160 s\n"


def test_what_is_done_soon_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with working("starting") as work:
        for step in range(1000):
            work.step("reading", step, 1000)
        work.end()
    assert capsys.readouterr() == ("", "")


def test_a_method_of_several_says_which_it_is() -> None:
    told: list[tuple[str, str, float | None]] = []
    work = Working(lambda *what: told.append(what), ["zero-filled", "cs-wavelet"])
    work.on_progress(mr.Progress("cs-wavelet", "iterate", 3, 8))
    work.on_progress(mr.Progress("cs-wavelet", "iterate", 5, 7, fraction=0.625))
    work.on_progress(mr.Progress("zero-filled", "prepare", 0, None))
    Working(lambda *what: told.append(what), ["unet"]).on_progress(mr.Progress("unet", "network", 1, 2))
    assert told == [
        ("cs-wavelet (2 of 2): iteration", "3 of 8", 0.375),
        ("cs-wavelet (2 of 2): iteration", "5 (62 %)", 0.625),
        ("zero-filled (1 of 2): preparing", "", None),
        ("unet: slice", "1 of 2", 0.5),
    ]


def test_a_bar_is_gone_at_the_end_and_takes_any_name() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with _bar(console, "reading [/red].h5") as (show, end):
        show("reading [bold].h5", "3 of 8", 3 / 8)
        console.print("x")  # draws the bar under it
        end()
        end()
    drawn = screen.getvalue()
    assert "3 of 8" in drawn
    assert "[bold].h5" in drawn
    assert drawn.endswith("\x1b[2K")  # the line is erased


def test_a_terminal_has_a_bar_and_standard_output_has_none_of_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "k.npy", (rng.normal(size=(4, 1, 64, 64)) + 1j).astype(np.complex64))
    command = [
        "reconstruct",
        tmp_path / "k.npy",
        "--method",
        "cs-wavelet",
        "--acceleration",
        "4",
        "-o",
        tmp_path / "o.h5",
    ]
    terminal, other = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "mri_recon.cli", *command],
        stdout=subprocess.PIPE,
        stderr=other,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(other)
    drawn = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        drawn += part
    out, _ = done.communicate(timeout=120)
    os.close(terminal)
    assert done.returncode == 0, drawn
    assert b"starting" in drawn
    assert out.count(b"\n") == 1
    assert out.startswith(f"{tmp_path / 'o.h5'}: cs-wavelet, 4 x 64 x 64".encode())
    assert b"\x1b" not in out
