"""Log runs on the test split: time, commit and command."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["code_state", "command_text", "commit", "find_repository", "log_test_run"]


def log_test_run(path: Path, command: str) -> None:
    """Append one line for a run on the test split: UTC time, commit, command."""
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with path.open("a", encoding="utf-8") as log:
        log.write(f"{when} {commit()} {command}\n")


def command_text(arguments: Sequence[str], *, program: str = "mri-recon") -> str:
    """Write a command for a page: no file argument names a folder of the machine it ran on.

    A path inside the project's checkout is written relative to its root, any other as the file's name. Paths behind
    `=`, as in `--json=FILE` and `METHOD.model=FILE`, count too.
    """
    root = find_repository(Path.cwd())
    return shlex.join([program, *(_without_folder(argument, root) for argument in arguments)])


def find_repository(start: Path) -> Path | None:
    """Find the project's checkout that holds `start`, or None."""
    for folder in (start, *start.parents):
        configuration = folder / "pyproject.toml"
        if configuration.is_file():
            project = tomllib.loads(configuration.read_text(encoding="utf-8")).get("project", {})
            return folder if project.get("name") == "mri-recon" else None
    return None


def commit() -> str:
    """Give the short commit of the working folder, "+changes" where the package differs from it, or "unknown".

    Pages and logs that a run writes itself are no change: only the four packages and `pyproject.toml` count.
    """
    try:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *_CODE)
        return _git("rev-parse", "--short=12", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def code_state() -> str:
    """Name the content of the four packages: a hash of git's trees and of the differences from them; or "unknown".

    Unlike `commit` it stays as it is when only a page or a log is committed.
    """
    try:
        difference = _git("diff", "HEAD", "--", *_CODE)
        trees = _git("rev-parse", *(f"HEAD:{folder}" for folder in _PACKAGES))
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    tree = hashlib.sha256(trees.encode()).hexdigest()[:12]
    return f"{tree}+{hashlib.sha256(difference.encode()).hexdigest()[:12]}" if difference else tree


_PACKAGES = ("mri_recon", "data/mri_recon_data", "training/mri_recon_training", "service/mri_recon_service")
_CODE = (*(f":(top){folder}" for folder in _PACKAGES), ":(top)pyproject.toml")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def _without_folder(argument: str, root: Path | None) -> str:
    name, equals, value = argument.partition("=")
    if equals:
        return f"{name}={_without_folder(value, root)}"
    if "/" not in argument and "\\" not in argument:
        return argument
    path = Path(argument).resolve()
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.name
