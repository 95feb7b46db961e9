"""The order in which worker threads get direct work and jobs, and the memory they may take, without any thread."""

from __future__ import annotations

from dataclasses import dataclass

from mri_recon_service.jobs.schedule import Schedule, Turn


@dataclass(eq=False)
class Piece:
    memory: int
    key: str | None = None


def _schedule(most_memory: int, *pieces: Piece, max_batch: int = 8) -> Schedule[Piece]:
    schedule: Schedule[Piece] = Schedule(most_memory=most_memory, max_batch=max_batch)
    assert all(schedule.add(piece) for piece in pieces)
    return schedule


def _next(schedule: Schedule[Piece]) -> Turn[Piece]:
    turn = schedule.next()
    assert turn is not None
    return turn


def test_direct_work_and_jobs_take_turns() -> None:
    first, second = Piece(1), Piece(1)
    schedule = _schedule(10, first, second)
    assert _next(schedule) == Turn([first], 1)
    assert _next(schedule) == Turn([], 9)  # all that is left, until the jobs are known
    schedule.claimed(4, of=9, job_waits=False)
    assert schedule.in_use == 5
    schedule.look_for_jobs()
    assert _next(schedule) == Turn([second], 1)
    assert _next(schedule) == Turn([], 4)


def test_pieces_of_one_key_go_together_as_far_as_they_fit() -> None:
    pieces = [Piece(3, "a"), Piece(3, "b"), Piece(3, "a"), Piece(3), Piece(3, "a"), Piece(3, "a")]
    assert _next(_schedule(10, *pieces)).direct == [pieces[0], pieces[2], pieces[4]]
    assert _next(_schedule(100, *pieces, max_batch=2)).direct == [pieces[0], pieces[2]]
    schedule = _schedule(10, pieces[1], pieces[0])
    assert _next(schedule) == Turn([pieces[1]], 3)
    assert schedule.waiting == 1


def test_no_direct_work_begins_before_a_job_that_waits_for_memory() -> None:
    schedule = _schedule(10, Piece(6), small := Piece(2))
    running = _next(schedule)
    jobs = _next(schedule)
    schedule.claimed(0, of=jobs.memory, job_waits=True)  # none of the waiting jobs fits into 4
    assert schedule.job_needs_room
    schedule.give_back(running.memory)
    assert _next(schedule) == Turn([], 10)
    schedule.claimed(7, of=10, job_waits=False)
    assert _next(schedule) == Turn([small], 2)


def test_work_that_is_too_large_for_the_memory_runs_alone() -> None:
    large = Piece(11)
    schedule = _schedule(10, large)
    assert _next(schedule) == Turn([large], 11)
    schedule.add(Piece(1))
    schedule.give_back(11)
    assert schedule.in_use == 0
    assert schedule.waiting == 1


def test_withdraw_and_close() -> None:
    first, second = Piece(1), Piece(1)
    schedule = _schedule(10, first, second)
    assert schedule.withdraw(first)
    assert not schedule.withdraw(first)
    assert schedule.close() == [second]
    assert schedule.next() is None
    assert not schedule.add(first)
    assert schedule.waiting == 0
