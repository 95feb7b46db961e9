"""Parts side by side: what they return, tell and raise, and how many threads they take."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mri_recon._system.threads import Tell, num_side_by_side, one_thread, side_by_side
from tests.support.patience import PATIENCE


@pytest.fixture(params=[1, 2, 3])
def threads(request: Any) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _default() -> int:
    """Read how many threads torch gives to a thread that has not computed yet."""
    found: list[int] = []
    new = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    new.start()
    new.join()
    return found[0]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_results_are_in_order_and_all_is_told_to_the_caller(threads: int, count: int) -> None:
    told: list[tuple[int, str, int]] = []

    def square(item: int, tell: Tell) -> int:
        tell(item, "begin")
        time.sleep(0.001 * (count - item))  # later ones are done first
        tell(item, "end")
        return item * item

    def heard(item: int, what: str) -> None:
        told.append((item, what, threading.get_ident()))

    assert side_by_side(square, range(count), heard=heard) == [item * item for item in range(count)]
    assert {one[2] for one in told} <= {threading.get_ident()}
    for item in range(count):
        assert [what for number, what, _ in told if number == item] == ["begin", "end"]


def test_as_many_at_once_as_torch_has_threads_and_each_on_one(threads: int) -> None:
    lock, together = threading.Lock(), threading.Barrier(threads)
    at_work, most = 0, 0

    def part(_: int, tell: Tell) -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        together.wait(PATIENCE)  # as many are at work at the same time
        with lock:
            at_work -= 1
        assert num_side_by_side(9) == 1
        return torch.get_num_threads()

    assert side_by_side(part, range(2 * threads)) == [1] * (2 * threads)
    assert most == threads == torch.get_num_threads() == _default() == num_side_by_side(9)


def test_few_parts_have_the_rest_of_the_threads_for_parts_of_their_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        assert side_by_side(lambda *_: num_side_by_side(9), range(2)) == [2, 2]
        with one_thread():
            assert side_by_side(lambda *_: num_side_by_side(9), range(1)) == [5]
    finally:
        torch.set_num_threads(before)


def test_one_thread_for_the_caller_and_as_many_as_before_for_parts(threads: int) -> None:
    with one_thread():
        with one_thread():
            assert torch.get_num_threads() == 1
            assert num_side_by_side(9) == threads
            assert side_by_side(lambda *_: threading.get_ident(), range(1)) == [threading.get_ident()]
        assert torch.get_num_threads() == 1
        assert _default() == threads
    assert torch.get_num_threads() == _default() == threads


def test_the_first_error_in_the_order_of_the_items_reaches_the_caller(threads: int) -> None:
    first, second, late = ValueError("first"), KeyError("second"), threading.Event()

    def part(item: int, tell: Tell) -> None:
        if item == 1:
            late.set()
            raise second
        assert threads == 1 or late.wait(PATIENCE)  # item 0 fails after item 1
        tell()  # is still wanted
        raise first

    with pytest.raises(ValueError, match="first") as caught:
        side_by_side(part, range(9))
    assert caught.value is first
    assert torch.get_num_threads() == _default() == threads


def test_parts_behind_an_error_are_not_computed() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    failed, seen = threading.Event(), []

    def part(item: int, tell: Tell) -> None:
        seen.append(item)
        if item == 0:
            failed.set()
            raise ValueError
        assert failed.wait(PATIENCE)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            tell()
        raise AssertionError("expected to be ended by tell")

    try:
        with pytest.raises(ValueError, match="^$"):
            side_by_side(part, range(9))
    finally:
        torch.set_num_threads(before)
    assert seen in ([0], [0, 1], [1, 0])


@pytest.mark.parametrize("error", [ValueError("enough"), KeyboardInterrupt()])
def test_what_the_listener_raises_ends_all_parts(threads: int, error: BaseException) -> None:
    heard_after = 0

    def heard(_: int) -> None:
        nonlocal heard_after
        heard_after += 1
        raise error

    def endless(item: int, tell: Tell) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            tell(item)
        raise AssertionError("expected to be ended by tell")

    with pytest.raises(type(error)) as caught:
        side_by_side(endless, range(5), heard=heard)
    assert caught.value is error
    assert heard_after == 1
    assert not [one for one in threading.enumerate() if one.name.startswith("mri-recon part")]
    assert torch.get_num_threads() == _default() == threads


def test_modes_and_context_are_those_of_the_caller(threads: int) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    variable.set(7)

    def part(_: int, tell: Tell) -> tuple[bool, bool, int]:
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), variable.get()

    assert side_by_side(part, range(3)) == [(True, False, 7)] * 3
    with torch.no_grad():
        assert side_by_side(part, range(3)) == [(False, False, 7)] * 3
    with torch.inference_mode():
        assert side_by_side(part, range(3)) == [(False, True, 7)] * 3


def test_other_devices_have_one_part_after_the_other_in_the_thread_of_the_caller() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = side_by_side(lambda *_: threading.get_ident(), range(3), device="cuda")
    finally:
        torch.set_num_threads(before)
    assert set(found) == {threading.get_ident()}
