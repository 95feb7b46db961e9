"""Slices are computed side by side: no bit depends on the number of threads or on the other slices."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from mri_recon.coils.espirit import espirit_maps
from mri_recon.errors import Cancelled, FormatError
from mri_recon.masks.convert import undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.progress import Progress
from mri_recon.reconstruction import reconstruct
from mri_recon.transforms.fourier import fft2c
from tests.support.helpers import complex_randn, phantom, smooth_maps

PRIORS = ["stationary", "orthonormal", "stationary-synthesis", "cycle-spinning", "tv"]
METHODS = [("cg-sense", {}), *(("cs-wavelet", {"prior": prior, "max_iters": 25}) for prior in PRIORS)]


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        assert torch.get_num_threads() == number
        torch.set_num_threads(before)


def _masked(slices: int, coils: int, h: int, w: int) -> tuple[Tensor, ColumnMask]:
    maps = smooth_maps(coils, h, w) if coils > 1 else torch.ones(1, h, w)
    brightness = torch.linspace(1, 3, slices)[:, None, None, None]
    noise = torch.stack([complex_randn(coils, h, w) for _ in range(slices)])
    kspace = fft2c(brightness * maps * phantom(h, w)) + 0.01 * noise
    mask = random_mask(w, 2, num_low_frequencies=8, seed=1)
    return undersample(kspace.to(torch.complex64), mask), mask


def _plain(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in info.items() if key != "seconds"}


@pytest.mark.parametrize("shape", [(1, 3, 24, 22), (3, 1, 21, 26), (5, 3, 19, 33), (2, 2, 97, 101)])
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_no_bit_depends_on_the_number_of_threads(method: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    kspace, mask = _masked(*shape)
    results = []
    for number in (1, 2, 4):
        with _threads(number):
            results.append(reconstruct(kspace, mask, method=method, **options))
    for other in results[1:]:
        assert torch.equal(results[0].image, other.image)
        assert _plain(results[0].info) == _plain(other.info)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_no_bit_depends_on_the_other_slices(method: str, options: dict[str, Any]) -> None:
    kspace, mask = _masked(3, 3, 19, 33)
    with _threads(2):
        together = reconstruct(kspace, mask, method=method, **options)
        for number in range(3):
            alone = reconstruct(kspace[number : number + 1], mask, method=method, **options)
            assert torch.equal(together.image[number], alone.image[0])
            assert together.info["per_slice"]["iterations"][number] == alone.info["iterations"]


@pytest.mark.parametrize("num_sets", [1, 2])
def test_maps_have_the_same_bits_for_any_number_of_threads(num_sets: int) -> None:
    kspace, mask = _masked(3, 4, 45, 38)
    found = []
    for number in (1, 2, 4):
        with _threads(number):
            found.append(espirit_maps(kspace, mask, num_sets=num_sets))
    for other in found[1:]:
        assert torch.equal(found[0].maps, other.maps)
        assert torch.equal(found[0].eigenvalues, other.eigenvalues)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_progress_of_several_slices_at_once(method: str, options: dict[str, Any]) -> None:
    kspace, mask = _masked(5, 3, 24, 22)
    seen: list[Progress] = []
    callers: set[int] = set()

    def on_progress(progress: Progress) -> None:
        seen.append(progress)
        callers.add(threading.get_ident())

    with _threads(3):
        result = reconstruct(kspace, mask, method=method, on_progress=on_progress, **options)
    assert callers == {threading.get_ident()}
    steps = [one for one in seen if one.stage == "iterate"]
    assert all(a.iteration <= b.iteration <= a.iteration + 1 for a, b in itertools.pairwise(steps))
    fractions = [one.iteration / one.total for one in steps if one.total]
    assert fractions == sorted(fractions)
    assert steps[-1].iteration == steps[-1].total == sum(result.info["per_slice"]["iterations"])
    assert steps[-1].objective == result.info.get("objective")
    assert steps[-1].relative_gap == result.info.get("relative_gap")


@pytest.mark.parametrize("error", [Cancelled("enough"), KeyboardInterrupt()])
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_what_the_callback_raises_stops_all_slices(method: str, options: dict[str, Any], error: BaseException) -> None:
    kspace, mask = _masked(5, 3, 24, 22)
    stopping = options | ({"max_iters": 10_000, "gap_tol": 0.0} if method == "cs-wavelet" else {})
    seen: list[int] = []

    def on_progress(progress: Progress) -> None:
        if progress.stage == "iterate":
            seen.append(progress.iteration)
            if progress.iteration == 4:
                raise error

    with _threads(3), pytest.raises(type(error)) as caught:
        reconstruct(kspace, mask, method=method, on_progress=on_progress, **stopping)
    assert caught.value is error
    assert seen == [1, 2, 3, 4]
    assert not [one for one in threading.enumerate() if one.name.startswith("mri-recon part")]


def test_an_error_in_a_slice_is_that_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from mri_recon.methods import cs_wavelet

    kspace, mask = _masked(4, 3, 24, 22)
    data_term: Callable[..., Any] = cs_wavelet.data_term
    brightest = [float(one.abs().max()) for one in kspace]

    def failing(operator: Any, one: Tensor) -> Any:
        if (number := brightest.index(float(one.abs().max()))) in (1, 3):
            raise FormatError(f"slice {number}")
        return data_term(operator, one)

    monkeypatch.setattr(cs_wavelet, "data_term", failing)
    with _threads(2), pytest.raises(FormatError, match="slice 1"):
        reconstruct(kspace, mask, method="cs-wavelet")
