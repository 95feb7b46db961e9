from __future__ import annotations

import importlib.util
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import pywt
import torch

from mri_recon.errors import MethodError, ShapeError
from mri_recon.transforms import wavelets
from mri_recon.transforms.wavelets import WaveletTransform, default_levels, padded_size
from tests.support.helpers import complex_randn

CASES = [
    ("db4", 3, (24, 40)),
    ("db2", 4, (16, 48)),
    ("haar", 2, (12, 20)),
    ("sym5", 1, (14, 26)),
    # Longer filters than the coarse levels: taps wrap around and add up.
    ("db4", 4, (16, 32)),
    # Large enough for the banded form: blocks of 32 and of 16, one block less than the taps reach, no taps beyond.
    ("db4", 3, (128, 112)),
    ("haar", 2, (112, 144)),
    ("sym8", 1, (176, 128)),
    ("coif5", 2, (128, 160)),
]

needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="needs numba, the extra `fast`: pip install mri-recon[fast]"
)


@pytest.fixture(params=["torch", pytest.param("compiled", marks=needs_numba)])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every size by the products of torch, then every size by the compiled loops."""
    monkeypatch.setattr(wavelets, "_MIN_COMPILED", 1 if request.param == "compiled" else 10**9)
    return str(request.param)


def _pywt(x: np.ndarray, wavelet: str, levels: int) -> np.ndarray:
    with warnings.catch_warnings():
        # PyWavelets warns where the wrapping reaches every coarse coefficient, which is wanted here.
        warnings.filterwarnings("ignore", "Level value of", UserWarning)
        coefficients = pywt.wavedec2(x, wavelet, mode="periodization", level=levels)
    array: np.ndarray = pywt.coeffs_to_array(coefficients)[0]
    return array


@pytest.mark.parametrize(("wavelet", "levels", "size"), CASES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_equals_pywavelets(form: str, wavelet: str, levels: int, size: tuple[int, int], batch: tuple[int, ...]) -> None:
    x = complex_randn(*batch, *size)
    transform = WaveletTransform(wavelet, levels, size)
    assert (transform._compiled is not None) == (form == "compiled")
    ours = transform.forward(x)
    flat = x.reshape(-1, *size).numpy()
    reference = np.stack([_pywt(item, wavelet, levels) for item in flat]).reshape(x.shape)
    assert np.abs(ours.numpy() - reference).max() < 1e-13


@pytest.mark.parametrize(("levels", "size"), [(2, (16, 20)), (3, (128, 128))])
def test_precision_follows_the_input_and_input_is_kept(form: str, levels: int, size: tuple[int, int]) -> None:
    transform = WaveletTransform("db4", levels, size)
    for dtype in (torch.complex64, torch.complex128, torch.float32, torch.float64):
        x = complex_randn(2, *size).to(dtype) if dtype.is_complex else torch.randn(2, *size, dtype=dtype)
        before = x.clone()
        c = transform.forward(x)
        assert c.dtype == dtype
        assert transform.inverse(x).dtype == dtype
        assert torch.equal(x, before)


def test_levels_differ() -> None:
    x = complex_randn(16, 16)
    coefficients = [WaveletTransform("db4", levels, (16, 16)).forward(x) for levels in (1, 2)]
    assert not torch.allclose(*coefficients)
    torch.testing.assert_close(coefficients[0][8:], coefficients[1][8:])


@pytest.mark.parametrize(
    ("size", "levels", "expected"), [((126, 196), 3, (128, 200)), ((128, 128), 4, (128, 128)), ((1, 5), 2, (4, 8))]
)
def test_padded_size(size: tuple[int, int], levels: int, expected: tuple[int, int]) -> None:
    assert padded_size(*size, levels) == expected


def test_default_levels_halve_down_to_fewer_than_sixteen_samples() -> None:
    sides = (1, 16, 30, 31, 32, 126, 128, 218, 256, 320)
    assert [default_levels(n, 640) for n in sides] == [1, 1, 1, 2, 2, 4, 4, 4, 5, 5]
    assert default_levels(640, 126) == 4


def test_errors_name_the_cure() -> None:
    with pytest.raises(MethodError, match=r"got 'bior4\.4': choose one of .*db4"):
        WaveletTransform("bior4.4", 2, (16, 16))
    with pytest.raises(MethodError, match="got 'nonsense'"):
        WaveletTransform("nonsense", 2, (16, 16))
    with pytest.raises(MethodError, match="at least one wavelet level"):
        WaveletTransform("db4", 0, (16, 16))
    with pytest.raises(ShapeError, match=r"pad to \(20, 16\)"):
        WaveletTransform("db4", 2, (17, 16))
    with pytest.raises(ShapeError, match=r"of size \(16, 16\)"):
        WaveletTransform("db4", 2, (16, 16)).forward(complex_randn(16, 12))


def test_the_banded_form_is_used_where_it_pays_and_equals_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wavelets, "_MIN_COMPILED", 10**9)
    x = complex_randn(2, 2, 160, 224)
    banded = WaveletTransform("db3", 4, (160, 224))
    assert [type(level).__name__ for level in banded._double.levels] == ["_BandedLevel", *["_DenseLevel"] * 3]
    monkeypatch.setattr(wavelets, "_MIN_BANDED", 10**9)
    dense = WaveletTransform("db3", 4, (160, 224))
    assert {type(level).__name__ for level in dense._double.levels} == {"_DenseLevel"}
    torch.testing.assert_close(banded.forward(x), dense.forward(x))
    torch.testing.assert_close(banded.inverse(x), dense.inverse(x))
    single = x.to(torch.complex64)
    torch.testing.assert_close(banded.forward(single), dense.forward(single), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(banded.inverse(x.real), dense.inverse(x).real)


@needs_numba
@pytest.mark.parametrize(
    ("wavelet", "levels", "size"),
    [*CASES, ("db1", 1, (2, 2)), ("db4", 5, (320, 288)), ("coif17", 1, (6, 2048)), ("dmey", 3, (8, 24))],
)
def test_the_compiled_form_equals_the_dense_one(
    monkeypatch: pytest.MonkeyPatch, wavelet: str, levels: int, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(wavelets, "_MIN_COMPILED", 1)
    monkeypatch.setattr(wavelets, "_MIN_BANDED", 10**9)
    compiled = WaveletTransform(wavelet, levels, size)
    assert compiled._compiled is not None
    monkeypatch.setattr(wavelets, "_MIN_COMPILED", 10**9)
    dense = WaveletTransform(wavelet, levels, size)
    assert dense._compiled is None
    x = torch.randn(2, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for ours, reference in ((compiled.forward, dense.forward), (compiled.inverse, dense.inverse)):
        torch.testing.assert_close(ours(x), reference(x), rtol=0, atol=1e-12)
        torch.testing.assert_close(ours(x.float()).double(), reference(x), rtol=0, atol=2e-5)
        # Views in another order, and the negated view that the imaginary part of a conjugate is.
        turned = x.mT.contiguous().mT
        assert torch.equal(ours(turned), ours(x))
        conjugate = torch.complex(x, x).conj()
        assert torch.equal(ours(conjugate.imag), ours(-x))
        assert ours(x[:0]).shape == (0, 1, *size)


@needs_numba
def test_the_compiled_form_is_for_large_images_on_the_processor() -> None:
    assert WaveletTransform("db4", 3, (112, 2048))._compiled is not None
    assert WaveletTransform("db4", 3, (104, 2048))._compiled is None
    assert WaveletTransform("db4", 3, (112, 2056))._compiled is None
    assert WaveletTransform("db4", 3, (112, 112), device="meta")._compiled is None


@needs_numba
def test_gradients_go_through_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wavelets, "_MIN_COMPILED", 1)
    transform = WaveletTransform("db2", 2, (12, 16))
    x = torch.randn(12, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(12, 16, dtype=torch.float64)
    (transform.forward(x) * weight).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, transform.inverse(weight))
    with torch.no_grad():
        torch.testing.assert_close(transform.forward(x), transform.forward(x.detach()))


@needs_numba
def test_threads_may_transform_at_once() -> None:
    transform = WaveletTransform("db4", 3, (128, 128))
    images = [torch.randn(2, 128, 128, generator=torch.Generator().manual_seed(seed)) for seed in range(16)]
    expected = [transform.forward(x) for x in images]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(transform.forward, images))
        back = list(pool.map(transform.inverse, results))
    for x, c, result, again in zip(images, expected, results, back, strict=True):
        assert torch.equal(result, c)
        torch.testing.assert_close(again, x, rtol=0, atol=1e-5)


def test_without_numba_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("_compile", "_wavelet_kernels"):
        monkeypatch.delitem(sys.modules, f"mri_recon.transforms.{module}", raising=False)
    monkeypatch.delattr("mri_recon.transforms._wavelet_kernels", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)  # its import fails
    transform = WaveletTransform("db2", 2, (128, 112))
    assert transform._compiled is None
    x = complex_randn(128, 112)
    torch.testing.assert_close(transform.inverse(transform.forward(x)), x)


def test_numba_is_loaded_for_large_transforms_only() -> None:
    code = (
        "import sys, mri_recon.transforms.wavelets as w; w.WaveletTransform('db4', 2, (64, 64)); "
        "raise SystemExit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_numba
def test_kernels_load_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    from mri_recon.transforms import _wavelet_kernels

    plain = numba.njit

    def unwritable(*args: object, cache: bool = False, **options: object) -> object:
        if cache:  # what numba raises where it finds no folder to write to
            raise RuntimeError("cannot cache function: no locator available")
        return plain(*args, **options)

    monkeypatch.setattr(numba, "njit", unwritable)

    def double(x: int) -> int:
        return 2 * x

    assert _wavelet_kernels._compiled(double)(3) == 6
