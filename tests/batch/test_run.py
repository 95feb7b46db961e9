from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mri_recon.batch import run as run_module
from mri_recon.batch.inputs import Input
from mri_recon.batch.jobs import Aide, Outcome, perform
from mri_recon.batch.journal import Journal
from mri_recon.batch.run import RAY, Counts, default_workers, parse_workers, run_batch
from mri_recon.errors import ConfigError, OutputError
from tests.support.batch import Double, make_items


@pytest.fixture
def job(tmp_path: Path) -> Double:
    folder = tmp_path / "out"
    folder.mkdir()
    return Double(folder)


def _log(job: Double) -> list[str]:
    path = job.folder / "log"
    return sorted(path.read_text().splitlines()) if path.exists() else []


def _serial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in this process, which is faster; the journal does not see a difference."""

    def outcomes(job: Double, items: list[Input], *_: object) -> object:
        yield from (perform(job, item, Aide()) for item in items)

    monkeypatch.setattr(run_module, "_outcomes", outcomes)


def _run(job: Double, items: list[Input], journal: Path | None, **more: object) -> list[Outcome]:
    return run_batch(job, items, journal=journal, **{"workers": 1, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_file_has_an_outcome_in_its_order_and_a_bad_one_costs_no_other(
    job: Double, tmp_path: Path, workers: int
) -> None:
    items = make_items(tmp_path / "in", ["slow3", "bad1", "a2", "fault7", "killed5", "b9"])
    items.append(Input(tmp_path / "in" / "none", "none"))
    told: list[tuple[int, int]] = []
    found = run_batch(
        job,
        items,
        journal=tmp_path / "journal",
        workers=workers,
        threads=2,
        on_outcome=lambda outcome, counts: told.append((counts.done, counts.failed)),
    )
    assert [one.name for one in found] == [one.name for one in items]
    assert [one.result.get("double") for one in found] == [0, None, 4, None, None, 10, None]
    assert {one.result["threads"] for one in found if not one.failed} == {2}
    errors = {one.name: one.error for one in found if one.failed}
    assert errors["bad1"] == "expected a good file, got bad1"
    assert errors["fault7"].startswith("unexpected ZeroDivisionError: a bug: a fault of the program")
    assert errors["killed5"].startswith("the process that worked on it ended by signal 9: expected enough memory")
    assert errors["none"].startswith("expected a file, got ")
    assert told[-1] == (7, 4)
    assert _log(job) == ["a2", "b9", "slow3"], "each once"


def test_work_that_needs_much_memory_is_alone(job: Double, tmp_path: Path) -> None:
    from mri_recon.batch.processes import run_in_processes

    items = make_items(tmp_path / "in", [f"a{number}" for number in range(6)])
    lonely = Double(job.folder, alone=True, needs=1 << 40)
    found = list(run_in_processes(lonely, items, workers=3, threads=1, memory=4 << 30))
    assert sorted(one.name for one in found if not one.failed) == [one.name for one in items], found


def test_a_full_disk_ends_the_run(job: Double, tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", ["a0", "full1", *(f"slow{number}" for number in range(9))])
    with pytest.raises(OutputError, match="no space"):
        _run(job, items, tmp_path / "journal")
    assert len(_log(job)) < 10


@pytest.mark.usefixtures("job")
def test_nothing_is_done_twice(job: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _serial(monkeypatch)
    journal, items = tmp_path / "journal", make_items(tmp_path / "in", ["a", "bad", "c"])
    first = _run(job, items, journal)
    counted: list[Counts] = []
    second = _run(job, items, journal, started=counted.append)
    assert _log(job) == ["a", "c"]
    assert (counted[0].total, counted[0].resumed, counted[0].stale) == (3, 2, 0)
    assert [one.resumed for one in second] == [True, False, True]
    assert [one.result for one in first] == [one.result for one in second]
    assert [one.error for one in first] == [one.error for one in second]
    (tmp_path / "in" / "bad").rename(tmp_path / "in" / "good")
    make_items(tmp_path / "in", ["good"])
    assert len(_run(job, [*items[::2], Input(tmp_path / "in" / "good", "good")], journal)) == 3
    assert _log(job) == ["a", "c", "good"]


def test_files_that_failed_are_tried_again_unless_asked_not_to(
    job: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serial(monkeypatch)
    journal, items = tmp_path / "journal", make_items(tmp_path / "in", ["a", "bad", "fault7"])
    first = _run(job, items, journal)
    tried: list[str] = []
    run = Double.run
    monkeypatch.setattr(Double, "run", lambda job, item, aide: tried.append(item.name) or run(job, item, aide))
    counted: list[Counts] = []
    kept = _run(job, items, journal, retry_failed=False, started=counted.append)
    assert tried == []
    assert (counted[0].resumed, counted[0].failed) == (3, 2)
    assert [(one.name, one.error) for one in kept] == [(one.name, one.error) for one in first]
    assert [one.resumed for one in kept] == [True, True, True]
    assert [one.error for one in _run(job, items, journal)] == [one.error for one in first]
    assert tried == ["bad", "fault7"]
    tried.clear()
    items[1].path.write_text("another content")
    _run(job, items, journal, retry_failed=False)
    assert tried == ["bad"], "a changed file is another file"


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("touched", False),  # the same content at another time
        ("content", True),
        ("same size and time, another content", False),  # as make, and rsync: it is not read
        ("output changed", True),
        ("output gone", True),
        ("settings", True),
        ("moved", True),
    ],
)
def test_what_has_changed_is_done_again(
    job: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, again: bool
) -> None:
    _serial(monkeypatch)
    journal, items = tmp_path / "journal", make_items(tmp_path / "in", ["a", "b"])
    _run(job, items, journal)
    path, before = items[1].path, items[1].path.stat()
    counted: list[Counts] = []
    match change:
        case "touched":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
        case "content":
            path.write_text("7")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
        case "same size and time, another content":
            path.write_text("7")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "output changed":
            job.outputs(items[1])[0].write_text("123456")
        case "output gone":
            job.outputs(items[1])[0].unlink()
        case "settings":
            job = Double(job.folder, option=1)
        case "moved":
            path = path.rename(tmp_path / "in" / "c")
            items[1] = Input(path, "b")
    found = _run(job, items, journal, started=counted.append)
    assert found[1].resumed != again
    assert found[1].result["double"] == 2 * int(path.read_text()) or not again
    assert job.outputs(items[1])[0].read_text() == str(found[1].result["double"])
    assert found[0].resumed == (change != "settings")
    assert counted[0].stale == (2 if change == "settings" else 0)


def test_lines_that_were_not_finished_are_ignored(job: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it writes leaves the beginning of a line."""
    _serial(monkeypatch)
    journal, items = tmp_path / "journal", make_items(tmp_path / "in", ["a", "b", "c"])
    _run(job, items, journal)
    whole = journal.read_bytes()
    records = [json.loads(line) for line in whole.splitlines() if line]
    assert [one["name"] for one in records] == ["a", "b", "c"]
    last = whole.rindex(b"\n{") + 1
    for cut in (last + 1, last + 12, last + 60, len(whole) - 2):
        journal.write_bytes(whole[:cut])
        found = _run(job, items, journal)
        assert [one.resumed for one in found] == [True, True, False], cut
        assert [one.resumed for one in _run(job, items, journal)] == [True, True, True]


def test_a_journal_is_held_by_one_command(job: Double, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, job.settings()), pytest.raises(OutputError, match="another command is working on .*journal"):
        Journal(path, job.settings()).__enter__()
    with Journal(path, job.settings()):
        pass


@pytest.mark.parametrize("content", ["a,b\n1,2\n", '{"a": 1}\n', "[1, 2]\n"])
def test_another_file_is_never_taken_for_a_journal(job: Double, tmp_path: Path, content: str) -> None:
    path = tmp_path / "journal"
    path.write_text(content)
    with pytest.raises(OutputError, match="to be the journal of this command"):
        Journal(path, job.settings()).__enter__()
    assert path.read_text() == content


def test_a_journal_in_a_folder_that_is_not_there(job: Double, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose a folder that exists"):
        Journal(tmp_path / "none" / "journal", job.settings()).__enter__()


def test_half_written_outputs_of_a_killed_run_are_removed(
    job: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _serial(monkeypatch)
    (item,) = make_items(tmp_path / "in", ["a"])
    left, other = job.folder / ".a.out.0123456789ab", job.folder / ".b.out.0123456789ab"
    mine = job.folder / ".a.out.backup"
    for path in (left, other, mine):
        path.touch()
    _run(job, [item], None)
    assert not left.exists()
    assert other.exists()
    assert mine.exists()


def test_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert default_workers(None, 1) == 8
    assert default_workers("cpu", 3) == 2
    assert default_workers("cuda", 1) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_workers(None, 1) == 3
    assert default_workers(None, 4) == 1
    assert parse_workers(None, None, 1) == 3
    assert parse_workers("5", None, 1) == 5
    assert parse_workers("ray", None, 1) == RAY
    for text in ("0", "-1", "many", "257", "1.5", ""):
        with pytest.raises(ConfigError, match="--workers: expected a number from 1 to 256, or ray"):
            parse_workers(text, None, 1)
