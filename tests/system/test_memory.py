from __future__ import annotations

from pathlib import Path

import pytest

from mri_recon._system import memory

GIB = 1 << 30


def _machine(monkeypatch: pytest.MonkeyPatch, folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    monkeypatch.setattr(memory, "_CGROUP", folder)
    monkeypatch.setattr(memory, "_MEMINFO", folder / "meminfo")


def test_memory_in_use_is_not_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, tmp_path, meminfo="MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\n")
    assert memory.available_memory() == 2 << 20
    assert memory.machine_memory() > 2 << 20


def test_a_container_has_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mib = 1 << 20
    stat = f"anon {3 * mib}\ninactive_file {mib}\nactive_file {mib}\n"
    files = {"memory_max": str(10 * mib), "memory_current": str(5 * mib), "memory_stat": stat}
    _machine(monkeypatch, tmp_path, meminfo="MemAvailable: 99999999 kB\n", **files)
    assert memory.machine_memory() == 10 * mib
    assert memory.available_memory() == 7 * mib


@pytest.mark.parametrize("text", ["max", "", "nonsense"])
def test_no_limit_is_no_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    _machine(monkeypatch, tmp_path, memory_max=text, meminfo="")
    assert memory.machine_memory() == memory.available_memory() > GIB // 4
