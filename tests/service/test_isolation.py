"""Each restriction by itself, in a process of its own: none can be undone."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mri_recon_service.uploads import isolation
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the restrictions are Linux's")

_NO_NEW_PRIVILEGES = "import ctypes; ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)\n"


def run(code: str, *, user: int | None = None, ends: int = 0) -> str:
    """What a fresh Python prints; the module is read as a file, so that nothing else is imported and no thread runs."""
    head = (
        "import sys, types, os, socket\n"
        f"source = open({str(Path(isolation.__file__))!r}).read()\n"
        "isolation = sys.modules['isolation'] = types.ModuleType('isolation')\n"
        "exec(compile(source, 'isolation', 'exec'), isolation.__dict__)\n"
        "def works(attempt):\n"
        "    try:\n"
        "        attempt()\n"
        "    except OSError:\n"
        "        return False\n"
        "    return True\n"
    )
    if user is not None:
        head += f"os.setgid({user}); os.setuid({user})\n"
    done = subprocess.run([sys.executable, "-P", "-c", head + code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == ends, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("user", [None, 65534])
def test_a_network_of_its_own(user: int | None) -> None:
    if user is not None and os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    code = "print(isolation.leave_network(), [name for _, name in socket.if_nameindex()])\n"
    reached, _, interfaces = run(code, user=user).partition(" ")
    if reached == "False":
        pytest.skip("this kernel gives no network namespace to such a user")
    assert interfaces == "['lo']"  # and even that is down
    with socket.create_server(("127.0.0.1", 0)) as listener:
        code = (
            f"connect = lambda: socket.socket().connect({listener.getsockname()!r})\n"
            "print(works(connect), isolation.leave_network(), works(connect))\n"
        )
        assert run(code, user=user) == "True True False"


def test_calls_beyond_the_list() -> None:
    code = _NO_NEW_PRIVILEGES + (
        "before = works(lambda: socket.socket().close())\n"
        "done = isolation.allow_syscalls()\n"
        "attempts = socket.socket, socket.socketpair, os.fork, lambda: os.execv('/bin/true', ['true']), "
        "lambda: os.kill(os.getppid(), 0)\n"
        "print(before, done, [works(one) for one in attempts], works(lambda: open('/etc/hostname').close()))\n"
    )
    if platform.machine() not in ("x86_64", "aarch64"):
        assert run(code).startswith("True False")
        return
    assert run(code) == "True True [False, False, False, False, False] True"


def test_a_machine_that_has_no_list_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert isolation.allow_syscalls() is False


def test_confined_files(tmp_path: Path) -> None:
    for name in ("in", "out", "other"):
        (tmp_path / name).mkdir()
    for made in ("in/a", "out/b"):
        (tmp_path / made).write_text("a")
    (tmp_path / "other" / "a").write_text("a")
    code = _NO_NEW_PRIVILEGES + (
        f"from pathlib import Path\nfolder = Path({str(tmp_path)!r})\n"
        "version = isolation.confine_files(folder / 'in', folder / 'out')\n"
        "print(version, works(lambda: open(folder / 'in/a').read()), works(lambda: open(folder / 'out/b', 'w')))\n"
        "print(works(lambda: open(folder / 'other/a')), works(lambda: open(folder / 'in/a', 'a')), "
        "works(lambda: open(folder / 'out/b')), works(lambda: os.listdir('/')), works(lambda: open('/etc/hostname')), "
        "works(lambda: os.link(folder / 'other/a', folder / 'out/c')), works(lambda: os.mkfifo(folder / 'out/d')), "
        "works(lambda: open(folder / 'out/new', 'w')))\n"
    )
    first, second = run(code).splitlines()
    if first.startswith("0 "):
        pytest.skip("the kernel has no landlock")
    assert first.split()[1:] == ["True", "True"]
    assert second.split() == ["False"] * 8


def test_memory_and_files_are_bounded(tmp_path: Path) -> None:
    code = (
        "isolation.limit(memory_bytes=1 << 26, file_bytes=1000)\n"
        "try:\n    bytearray(1 << 27); print('too much')\nexcept MemoryError:\n    print('bounded')\n"
        "bytearray(1 << 24)\n"
        f"print(works(lambda: open({str(tmp_path / 'a')!r}, 'wb', buffering=0).write(bytes(1000))), "
        f"works(lambda: open({str(tmp_path / 'a')!r}, 'ab', buffering=0).write(b'x')))\n"
    )
    assert run(code).splitlines() == ["bounded", "True False"]


def test_processor_time_is_bounded() -> None:
    code = "isolation.limit_seconds(0.5)\nprint('on', flush=True)\nwhile True: pass\n"
    assert run(code, ends=-signal.SIGXCPU) == "on"


def test_elsewhere_nothing_is_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert isolation.restrict(readable=tmp_path, writable=tmp_path) == isolation.Isolation(None, False, 0)
