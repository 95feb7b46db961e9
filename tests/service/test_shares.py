"""Bounded places are shared: nobody takes them all, and the free ones are not kept back from who has none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mri_recon_service.shares import Shares, admits


@given(st.integers(1, 300), st.lists(st.integers(0, 9), max_size=400), st.booleans())
def test_places_are_bounded_and_shared(most: int, clients: list[int], shared: bool) -> None:
    shares = Shares(most, shared=shared)
    held = dict.fromkeys(clients, 0)
    for client in clients:
        free = most - shares.used
        expected = free > 0 and (not shared or held[client] == 0 or held[client] + 1 <= 2 * (free - 1))
        assert shares.free_for(str(client)) == expected
        place = shares.take(str(client))
        assert (place is not None) == expected
        held[client] += expected
    assert shares.used == sum(held.values()) <= most


def test_one_client_leaves_a_third() -> None:
    shares = Shares(30, shared=True)
    taken = [place for _ in range(40) if (place := shares.take("greedy"))]
    assert len(taken) == 20
    others = [shares.take(f"other{number}") for number in range(10)]
    assert all(others)
    assert shares.take("late") is None
    taken[0].release()
    taken[0].release()
    assert shares.used == 29
    assert shares.take("greedy") is None
    assert shares.take("late") is not None


def test_a_single_client_may_take_everything() -> None:
    assert [admits(3, used, used, shared=False) for used in range(5)] == [True, True, True, False, False]
    assert [admits(9, 0, 0, wanted, shared=True) for wanted in (9, 10)] == [True, False]
