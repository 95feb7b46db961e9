from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mri_recon.coils.prepare import prepare
from mri_recon.errors import FormatError, MaskError, MethodError, ShapeError
from mri_recon.masks.convert import as_mask, undersample
from mri_recon.masks.draw import random_mask
from mri_recon.masks.types import ColumnMask
from mri_recon.methods import table
from mri_recon.methods.table import (
    can_batch,
    check_options,
    get_method,
    method_names,
    method_options,
    method_summary,
)
from mri_recon.models import inference
from mri_recon.models.inference import network_measurement, wrap_margin
from mri_recon.models.training_range import Envelope
from mri_recon.progress import Progress
from mri_recon.reconstruction import Reconstruction, reconstruct, reconstruct_batch
from mri_recon.transforms.fourier import fft2c
from tests.support.methods import BUILT_IN
from tests.support.networks import tiny_weights


def _scan(*shape: int, seed: int = 0) -> Tensor:
    """k-space (slice, coil, h, w) of a smooth object with a phase, and a little noise."""
    slices, coils, h, w = shape
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    disc = ((y**2 + x**2 < 0.7) + 0.5 * (np.abs(x - 0.2) + np.abs(y) < 0.4)) * np.exp(1j * (x + 0.5 * y))
    centres = rng.uniform(-1, 1, (coils, 2))
    maps = np.stack([np.exp(-((y - a) ** 2) - (x - b) ** 2 + 1j * a * x) for a, b in centres])
    images = disc * maps * np.linspace(1, 2, slices)[:, None, None, None]
    images = images + 0.01 * (rng.normal(size=images.shape) + 1j * rng.normal(size=images.shape))
    return fft2c(torch.from_numpy(images)).to(torch.complex64)


def _masked(*shape: int, seed: int = 0) -> tuple[Tensor, ColumnMask]:
    mask = random_mask(shape[-1], 2, num_low_frequencies=max(2, shape[-1] // 6), seed=seed)
    return undersample(_scan(*shape, seed=seed), mask), mask


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A tiny network of each architecture with random weights that do something."""
    folder = tmp_path_factory.mktemp("weights")
    return {architecture: tiny_weights(architecture, folder) for architecture in ("unet", "unrolled")}


def _options(name: str, model: dict[str, str]) -> dict[str, Any]:
    quick = {"cs-wavelet": {"max_iters": 15}, "auto": {"candidates": "cg-sense,cs-wavelet:max_iters=15"}}
    return {"model": model[name]} if name in model else quick.get(name, {})


def _install(monkeypatch: pytest.MonkeyPatch, folder: Path, entries: dict[str, str], module: str) -> None:
    """A package with entry points, as pip would leave it."""
    (folder / "fake_methods.py").write_text(module)
    information = folder / "fake_methods-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-methods\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in entries.items())
    (information / "entry_points.txt").write_text(f"[{table.ENTRY_POINT_GROUP}]\n{lines}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "fake_methods", raising=False)


def test_built_in_names() -> None:
    assert method_names()[: len(BUILT_IN)] == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("shape", [(1, 1, 17, 22), (3, 1, 16, 19), (2, 3, 21, 16), (1, 4, 13, 15)])
def test_every_method_makes_an_image_of_every_shape(name: str, shape: tuple[int, ...], model: dict[str, str]) -> None:
    kspace, mask = _masked(*shape)
    before = kspace.clone()
    result = reconstruct(kspace, mask, method=name, **_options(name, model))
    assert isinstance(result, Reconstruction)
    assert result.image.shape == (shape[0], *shape[2:])
    assert result.image.dtype in (torch.complex64, torch.float32)
    assert torch.isfinite(result.magnitude).all()
    assert result.magnitude.dtype == torch.float32
    assert result.method == name
    assert result.info["seconds"] > 0
    assert isinstance(result.info["warnings"], list)
    assert result.warnings == tuple(result.info["warnings"])
    assert torch.equal(kspace, before), "the input was changed"


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("shape", [(2, 1, 17, 22), (1, 3, 20, 15)])
@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_no_method_depends_on_the_units(
    name: str, shape: tuple[int, ...], factor: float, model: dict[str, str]
) -> None:
    kspace, mask = _masked(*shape)
    image = reconstruct(kspace, mask, method=name, **_options(name, model)).image
    scaled = reconstruct(factor * kspace, mask, method=name, **_options(name, model)).image
    torch.testing.assert_close(scaled / factor, image, rtol=1e-3, atol=1e-4 * float(image.abs().max()))


@pytest.mark.parametrize("name", BUILT_IN)
def test_another_input_gives_another_image(name: str, model: dict[str, str]) -> None:
    kspace, mask = _masked(1, 1, 16, 19)
    other, _ = _masked(1, 1, 16, 19, seed=5)
    options = _options(name, model)
    first = reconstruct(kspace, mask, method=name, **options).image
    second = reconstruct(undersample(other, mask), mask, method=name, **options).image
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != "auto"])  # whose weights are of all slices
def test_slices_do_not_know_each_other(name: str, model: dict[str, str]) -> None:
    kspace, mask = _masked(3, 1, 16, 19)
    # A fixed number of iterations: a stopping rule may well look at the whole volume.
    options = {"cs-wavelet": {"max_iters": 15, "gap_tol": 0.0}, "cg-sense": {"tol": 0.0, "max_iters": 5}}.get(
        name, _options(name, model)
    )
    whole = reconstruct(kspace, mask, method=name, **options).image
    alone = reconstruct(kspace[1:2], mask, method=name, **options).image
    torch.testing.assert_close(alone[0], whole[1], rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


def test_arrays_and_tensors_are_both_welcome() -> None:
    kspace, mask = _masked(2, 1, 11, 14)
    from_tensor = reconstruct(kspace, mask, method="zero-filled").image
    from_array = reconstruct(kspace.numpy(), mask.lines, method="zero-filled").image
    from_double = reconstruct(kspace.numpy().astype(np.complex128), mask.tensor(), method="zero-filled").image
    assert torch.equal(from_array, from_tensor)
    assert torch.equal(from_double, from_tensor)


def test_a_view_of_an_array_is_read_right() -> None:
    kspace, mask = _masked(2, 1, 11, 14)
    flipped = kspace.numpy()[:, :, ::-1]
    expected = reconstruct(kspace.flip(2), mask, method="zero-filled").image
    assert torch.equal(reconstruct(flipped, mask, method="zero-filled").image, expected)


def test_a_two_dimensional_mask() -> None:
    kspace = _scan(1, 1, 12, 15)
    pattern = np.random.default_rng(0).random((12, 15)) < 0.5
    pattern[4:8, 5:10] = True
    image = reconstruct(undersample(kspace, pattern), pattern, method="zero-filled").image
    assert image.shape == (1, 12, 15)


def test_given_maps_are_used_and_may_be_of_one_slice() -> None:
    kspace, mask = _masked(2, 3, 12, 15)
    torch.manual_seed(0)
    maps = torch.view_as_complex(torch.randn(3, 12, 15, 2))
    maps = maps / maps.abs().square().sum(0).sqrt()
    one = reconstruct(kspace, mask, method="zero-filled", sens_maps=maps).image
    every = reconstruct(kspace, mask, method="zero-filled", sens_maps=maps.expand(2, 3, 12, 15).numpy()).image
    torch.testing.assert_close(one, every)
    assert not torch.allclose(one.abs(), reconstruct(kspace, mask, method="zero-filled").magnitude)


@pytest.mark.parametrize(
    "maps",
    [
        torch.ones(2, 12, 15, dtype=torch.complex64),
        torch.ones(3, 15, 12, dtype=torch.complex64),
        torch.ones(3, 12, 15),
    ],
)
def test_maps_that_do_not_fit(maps: Tensor) -> None:
    kspace, mask = _masked(2, 3, 12, 15)
    with pytest.raises(
        ShapeError, match=r"expected complex sens_maps \(3, 12, 15\) or \(2, 3, 12, 15\).*one map a coil"
    ):
        reconstruct(kspace, mask, method="zero-filled", sens_maps=maps)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda k: k[0], ShapeError, "got 3 axes (1, 12, 15): one slice of many coils is kspace[None]"),
        (lambda k: k[0, 0], ShapeError, "a single image of one coil is kspace[None, None]"),
        (lambda k: k[None], ShapeError, "got 5 axes (1, 2, 1, 12, 15): give it these four axes"),
        (lambda k: k.real, ShapeError, "expected complex k-space, got torch.float32"),
        (lambda k: k[:0], ShapeError, "at least one sample on every axis, got (0, 1, 12, 15)"),
        (lambda k: k.tolist(), ShapeError, "expected k-space as a tensor or a NumPy array, got list"),
        (lambda k: 0 * k, FormatError, "got only zeros"),
        (lambda k: k * torch.inf, FormatError, "expected finite k-space"),
        (lambda k: torch.where(k != 0, torch.nan, k), FormatError, "expected finite k-space"),
        (lambda k: k.to(torch.complex128) * 1e40, FormatError, "rescale values beyond 1e38"),
        (lambda k: k + 1, MaskError, "undersample first, undersample(kspace, mask)"),
        (lambda k: k[..., :-1], MaskError, "15"),
    ],
)
def test_kspace_that_cannot_be(change: Any, error: type[Exception], message: str) -> None:
    kspace, mask = _masked(2, 1, 12, 15)
    with pytest.raises(error, match=re.escape(message)):
        reconstruct(change(kspace), mask, method="zero-filled")


def _noise_samples(coils: int, count: int = 400) -> Tensor:
    rng = np.random.default_rng(7)
    white = rng.normal(size=(coils, count)) + 1j * rng.normal(size=(coils, count))
    return torch.from_numpy(np.linspace(1, 3, coils)[:, None] * white + 0.5 * white[:1])


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("source", ["samples", "edge"])
def test_every_method_takes_prepared_data(name: str, source: str, model: dict[str, str]) -> None:
    kspace, mask = _masked(2, 4, 24, 28)
    samples = _noise_samples(4).numpy()
    prewhiten = samples if source == "samples" else "edge"
    before = kspace.clone()
    result = reconstruct(kspace, mask, method=name, prewhiten=prewhiten, num_virtual_coils=3, **_options(name, model))
    assert torch.equal(kspace, before), "the input was changed"
    assert torch.isfinite(result.magnitude).all()
    done = result.info["preparation"]
    assert done["prewhiten"] == source
    assert (done["num_coils"], done["num_virtual_coils"]) == (4, 3)
    assert 0.5 < done["energy_kept"] < 1
    data = prepare(
        kspace, mask, prewhiten=torch.from_numpy(samples) if source == "samples" else "edge", num_virtual_coils=3
    )
    assert done["noise_sigma"] == data.noise_sigma
    sigma = {"sigma": data.noise_sigma} if "sigma" in method_options(name) else {}
    alone = reconstruct(data.kspace, mask, method=name, **sigma, **_options(name, model))
    torch.testing.assert_close(result.image, alone.image)
    assert "preparation" not in alone.info
    plain = reconstruct(kspace, mask, method=name, **_options(name, model))
    assert not torch.allclose(result.image, plain.image, rtol=1e-3)


def test_the_words_for_pre_whitening() -> None:
    kspace, mask = _masked(1, 3, 12, 15)
    with pytest.raises(MethodError, match=r'"edge", noise samples \(coil, sample\) or None, got \'best\': choose one'):
        reconstruct(kspace, mask, method="zero-filled", prewhiten="best")
    with pytest.raises(ShapeError, match="take the noise samples from the same coils"):
        reconstruct(kspace, mask, method="zero-filled", prewhiten=_noise_samples(2))
    with pytest.raises(MethodError, match="between 1 and 3 virtual coils, got num_coils=5"):
        reconstruct(kspace, mask, method="zero-filled", num_virtual_coils=5)


def test_sampled_columns_without_data_are_counted() -> None:
    kspace, mask = _masked(2, 3, 12, 15)
    assert reconstruct(kspace, mask, method="zero-filled").info["sampled_without_data"] == 0
    column = int(np.flatnonzero(mask.lines)[0])
    kspace[..., column] = 0
    assert reconstruct(kspace, mask, method="zero-filled").info["sampled_without_data"] == 1
    kspace[1, 2, 3, column] = 1
    assert reconstruct(kspace, mask, method="zero-filled").info["sampled_without_data"] == 0
    pattern = np.random.default_rng(0).random((12, 15)) < 0.6
    kspace = undersample(_scan(2, 3, 12, 15), pattern)
    row, column = np.argwhere(pattern)[3]
    kspace[..., row, column] = 0
    assert reconstruct(kspace, pattern, method="zero-filled").info["sampled_without_data"] == 1


@pytest.mark.parametrize("name", ["cg-sense", "cs-wavelet"])
def test_bad_input_never_becomes_an_image(name: str) -> None:
    kspace, mask = _masked(2, 4, 24, 28)
    damaged = kspace.clone()
    damaged[0, 1, 2, 14] = torch.nan
    no_centre = mask.lines.copy()
    no_centre[13:16] = False
    one_line = np.zeros(28, dtype=bool)
    one_line[[2, 14, 20]] = True
    cases: list[tuple[type[Exception], str, Any, Any]] = [
        (FormatError, "expected finite k-space", damaged, mask),
        (FormatError, "got only zeros", 0 * kspace, mask),
        (MaskError, "samples at .* positions that the mask excludes", kspace, np.roll(mask.lines, 1)),
        (MaskError, r"sampled centre.*center_fraction.*sens_maps", kspace * torch.from_numpy(no_centre), no_centre),
        (MaskError, r"at least 2 x 2.*center_fraction.*sens_maps", kspace * torch.from_numpy(one_line), one_line),
    ]
    for error, message, data, lines in cases:
        for prepared in ({}, {"prewhiten": _noise_samples(4), "num_virtual_coils": 3}):
            with pytest.raises(error, match=message):
                reconstruct(data, lines, method=name, **prepared)
    # The centre that is not there is not needed where the maps are known.
    maps = torch.full((4, 24, 28), 0.5, dtype=torch.complex64)
    data = kspace * torch.from_numpy(no_centre)
    assert torch.isfinite(reconstruct(data, no_centre, method=name, sens_maps=maps).magnitude).all()


@pytest.mark.parametrize("name", ["cg-sense", "cs-wavelet"])
def test_more_coils_than_lines(name: str) -> None:
    kspace, _ = _masked(1, 20, 24, 28)
    mask = random_mask(28, 3, num_low_frequencies=5, seed=2)
    assert mask.num_lines < 20
    kspace = undersample(_scan(1, 20, 24, 28), mask)
    for prepared in ({}, {"num_virtual_coils": 6}):
        result = reconstruct(kspace, mask, method=name, **prepared)
        assert torch.isfinite(result.magnitude).all()
        assert result.info["maps"] == "espirit"


def test_an_unknown_method_lists_the_known() -> None:
    kspace, mask = _masked(1, 1, 12, 15)
    with pytest.raises(MethodError, match=rf"one of the methods {', '.join(BUILT_IN)}.*got 'magic'"):
        reconstruct(kspace, mask, method="magic")


@pytest.mark.parametrize("name", [["unet"], None, 3, {"unet": 1}, ("unet",)])
def test_a_method_is_named_by_a_text(name: object) -> None:
    kspace, mask = _masked(1, 1, 12, 15)
    with pytest.raises(MethodError, match=r"expected one of the methods zero-filled, .*: choose one of them"):
        reconstruct(kspace, mask, method=name)  # type: ignore[arg-type]


def test_an_unknown_option_lists_the_known() -> None:
    kspace, mask = _masked(1, 1, 12, 15)
    with pytest.raises(MethodError, match=r"'cs-wavelet'.*reg_weight, sigma, gap_tol, max_iters.*got 'lamda'"):
        reconstruct(kspace, mask, method="cs-wavelet", lamda=1.0)
    with pytest.raises(MethodError, match=r"'zero-filled': expected one of its options combination, got 'reg_weight'"):
        check_options("zero-filled", {"reg_weight": 1})


def test_options_are_those_of_the_signature() -> None:
    assert method_options("zero-filled") == {"combination": "rss"}
    expected = {"model": "unet", "data_consistency": "weighted", "sigma": None, "adapt": 0, "adapt_seed": 0}
    assert method_options("unet") == expected
    assert method_options("unrolled") == expected | {"model": "unrolled"}
    assert {"reg_weight", "gap_tol", "max_iters"} <= set(method_options("cs-wavelet"))


def test_a_device_that_is_not_there() -> None:
    kspace, mask = _masked(1, 1, 12, 15)
    with pytest.raises(MethodError, match=r"expected a device of this machine.*got 'abacus'"):
        reconstruct(kspace, mask, method="zero-filled", device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(MethodError, match="got 'cuda'"):
            reconstruct(kspace, mask, method="zero-filled", device="cuda")


@settings(max_examples=20)
@given(
    slices=st.integers(1, 3), coils=st.integers(1, 3), h=st.integers(1, 9), w=st.integers(2, 9), seed=st.integers(0, 99)
)
def test_zero_filled_of_everything_is_the_image(slices: int, coils: int, h: int, w: int, seed: int) -> None:
    """With every column sampled, the root sum of squares of the coil images comes back."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(slices, coils, h, w)) + 1j * rng.normal(size=(slices, coils, h, w))
    result = reconstruct(fft2c(torch.from_numpy(images)), np.ones(w, dtype=bool), method="zero-filled")
    np.testing.assert_allclose(
        result.magnitude.numpy(), np.sqrt((np.abs(images) ** 2).sum(axis=1)), rtol=1e-4, atol=1e-5
    )


THIRD_PARTY = """
import torch

def half(kspace, mask, *, sens_maps, device, factor=0.5):
    assert kspace.device == device
    return factor * kspace[:, 0].abs(), {"lines": int(mask.tensor().sum())}

def without_device(kspace, mask, *, sens_maps=None):
    return kspace[:, 0], {}

def told(kspace, mask, *, sens_maps, sigma=None):
    return kspace[:, 0], {"sigma": sigma}

def cropped(kspace, mask, *, sens_maps):
    return sens_maps.abs().square().sum(1).sqrt()[:, 2:-2, 2:-2], {}

def anything(kspace, mask, **options):
    return kspace[:, 0], {"options": sorted(options)}

def only_image(kspace, mask, *, sens_maps):
    return kspace[:, 0]

def flat(kspace, mask, *, sens_maps):
    return kspace[0, 0], {}

def silent(kspace, mask, *, sens_maps):
    return kspace[:, 0], {"warnings": None}

number = 7

def together(kspace, mask, *, sens_maps, device, factor=0.5):
    return factor * kspace[:, 0], {"alone": True}

def together_batch(problems, *, device, factor=0.5):
    assert all(kspace.device == device for kspace, _ in problems)
    return [(factor * kspace[:, 0], {"lines": int(mask.tensor().sum())}) for kspace, mask in problems]

together.batch = together_batch

def forgetful(kspace, mask, *, sens_maps):
    return kspace[:, 0], {}

forgetful.batch = lambda problems: [(problems[0][0][:, 0], {})]

def unfinished(kspace, mask, *, sens_maps):
    return kspace[:, 0], {}

unfinished.batch = lambda problems: [(torch.full_like(kspace[:, 0], torch.nan), {}) for kspace, _ in problems]

def mistaken(kspace, mask, *, sens_maps):
    return kspace[:, 0], {}

mistaken.batch = 3
"""


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ["half", "without_device", "told", "cropped", "anything", "only_image", "flat", "silent", "number"]
    names += ["together", "forgetful", "unfinished", "mistaken"]
    entries = {name.replace("_", "-"): f"fake_methods:{name}" for name in names}
    _install(
        monkeypatch, tmp_path, {**entries, "absent": "fake_methods:absent", "gone": "no_such_module:f"}, THIRD_PARTY
    )


@pytest.mark.usefixtures("third_party")
def test_a_method_of_another_package() -> None:
    assert method_names()[: len(BUILT_IN)] == BUILT_IN
    assert "half" in method_names()
    assert method_options("half") == {"factor": 0.5}
    kspace, mask = _masked(2, 1, 12, 15)
    result = reconstruct(kspace, mask, method="half", factor=2)
    torch.testing.assert_close(result.image, 2 * kspace[:, 0].abs())
    assert result.info["lines"] == mask.num_lines
    assert result.info["warnings"] == []
    assert torch.equal(reconstruct(kspace, mask, method="without-device").image, kspace[:, 0])
    with pytest.raises(MethodError, match=r"'without-device': expected no option, for it has none, got 'reg_weight'"):
        check_options("without-device", {"reg_weight": 1})
    assert reconstruct(kspace, mask, method="anything", x=1).info["options"] == ["device", "sens_maps", "x"]


@pytest.mark.usefixtures("third_party")
def test_a_method_is_told_the_noise_that_pre_whitening_knows() -> None:
    kspace, mask = _masked(1, 3, 12, 16)
    samples = _noise_samples(3)
    sigma = float(samples.abs().square().mean().sqrt())
    info = reconstruct(kspace, mask, method="told", prewhiten=samples).info
    assert info["sigma"] == pytest.approx(sigma)
    assert info["sigma_source"] == "pre-whitening"
    info = reconstruct(kspace, mask, method="told", prewhiten=samples, sigma=5.0).info
    assert info["sigma"] == 5.0
    assert "sigma_source" not in info
    assert reconstruct(kspace, mask, method="told", num_virtual_coils=2).info["sigma"] is None
    assert reconstruct(kspace, mask, method="told").info["sigma"] is None


@pytest.mark.usefixtures("third_party")
def test_given_maps_go_through_the_preparation_and_the_image_back() -> None:
    kspace, mask = _masked(1, 3, 12, 16)
    torch.manual_seed(0)
    maps = torch.view_as_complex(torch.randn(3, 12, 16, 2))
    samples = _noise_samples(3)
    image = reconstruct(kspace, mask, method="cropped", sens_maps=maps, prewhiten=samples).image
    data = prepare(kspace, mask, maps, prewhiten=samples)
    assert data.image_factor is not None
    # sum |S|^2 is kept, and the factor belongs to the centre of the image.
    norm = torch.linalg.vector_norm(maps, dim=0)[None, 2:-2, 2:-2]
    torch.testing.assert_close(image, norm * data.image_factor[:, 2:-2, 2:-2])


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("only-image", r"expected it to return \(image \(2, h, w\), info\), got Tensor: repair"),
        ("flat", r"got Tensor \(12, 15\): repair"),
        ("silent", r"expected info\['warnings'\] to be a list of sentences, got NoneType: repair"),
        ("number", r"is a int, expected a function"),
        ("absent", r"'absent' \(fake_methods:absent\) cannot be loaded \(AttributeError"),
        ("gone", r"cannot be loaded \(ModuleNotFoundError: No module named 'no_such_module'\): repair or uninstall"),
    ],
)
def test_a_broken_method_of_another_package(name: str, message: str) -> None:
    kspace, mask = _masked(2, 1, 12, 15)
    with pytest.raises(MethodError, match=message):
        reconstruct(kspace, mask, method=name)


def test_nobody_replaces_a_built_in_method(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _install(monkeypatch, tmp_path, {"unet": "fake_methods:half"}, THIRD_PARTY)
    with pytest.warns(
        RuntimeWarning, match="'unet' of fake_methods:half has the name of a built-in method and is ignored"
    ):
        assert method_names() == BUILT_IN
    assert get_method("unet").__module__ == "mri_recon.methods.networks"


BATCH_SHAPES = [(1, 1, 17, 22), (3, 1, 16, 19), (2, 3, 21, 16), (1, 4, 13, 15)]


def _several(shape: tuple[int, ...], crossing: bool = False) -> list[tuple[Tensor, Any]]:
    """Problems with masks of their own; the second in other units, the last, if asked, of an object that crosses."""
    problems = [(1.0, 2), (1e4, 3), (1.0, 2.5)]
    found: list[tuple[Tensor, Any]] = []
    for seed, (unit, acceleration) in enumerate(problems):
        mask = random_mask(shape[-1], acceleration, num_low_frequencies=max(2, shape[-1] // 6), seed=seed)
        kspace = _scan(*shape, seed=seed)
        if crossing and seed == 2:  # half a field of view along the phase axis
            kspace = kspace * torch.tensor([1.0, -1.0]).repeat(shape[-1])[: shape[-1]]
        found.append((undersample(unit * kspace, mask), mask))
    return found


def _assert_as_alone(problems: list[tuple[Tensor, Any]], method: str, **options: Any) -> None:
    together = reconstruct_batch(problems, method=method, **options)
    assert len(together) == len(problems)
    for (kspace, mask), one in zip(problems, together, strict=True):
        alone = reconstruct(kspace, mask, method=method, **options)
        assert one.image.shape == alone.image.shape
        assert one.image.dtype == alone.image.dtype
        assert (one.image - alone.image).abs().max() <= 1e-5 * alone.image.abs().max()
        assert one.method == method
        assert one.info["batch_size"] == len(problems)
        assert one.info["seconds"] > 0
        own = {"seconds", "batch_size"}
        assert {k: v for k, v in one.info.items() if k not in own} == {
            k: v for k, v in alone.info.items() if k not in own
        }


@pytest.mark.parametrize("name", ["unet", "unrolled"])
@pytest.mark.parametrize("shape", BATCH_SHAPES)
def test_a_batch_is_what_each_is_alone(name: str, shape: tuple[int, ...], model: dict[str, str]) -> None:
    _assert_as_alone(_several(shape), name, model=model[name])


@pytest.mark.parametrize("name", ["unet", "unrolled"])
def test_a_batch_of_several_margins_kinds_of_mask_and_runs(
    name: str, model: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mri_recon.models.inference._SLICES_AT_ONCE", 2)
    problems = _several((2, 1, 16, 40), crossing=True)
    pattern = np.random.default_rng(0).random((16, 40)) < 0.6
    pattern[5:11, 15:25] = True
    problems.append((undersample(_scan(2, 1, 16, 40), pattern), as_mask(pattern, (16, 40))))
    margins = {wrap_margin(network_measurement(k, m)[0].split()[0].adjoint()) for k, m in problems}
    assert margins == {0, 32}
    _assert_as_alone(problems, name, model=model[name], data_consistency="exact")


def test_the_network_runs_once_for_a_batch(model: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    network = inference.run_network

    def counted(*args: Any) -> Tensor:
        sizes.append(len(args[1].samples))
        return network(*args)

    monkeypatch.setattr(inference, "run_network", counted)
    monkeypatch.setattr(inference, "wrap_margin", lambda image: 0)
    reconstruct_batch(_several((1, 1, 17, 22)), method="unrolled", model=model["unrolled"])
    assert sizes == [3]


def test_a_batch_warns_each_for_itself(tmp_path: Path) -> None:
    narrow = Envelope(acceleration=(1.5, 2.2), num_coils=(1, 1), anatomy="noise")
    weights = tiny_weights("unet", tmp_path, envelope=narrow)
    first, second, _ = reconstruct_batch(_several((1, 1, 17, 22)), method="unet", model=weights)
    assert first.info["warnings"] == []
    assert any("acceleration" in note for note in second.info["warnings"])


def test_a_batch_takes_arrays_and_tells_of_its_slices(model: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "wrap_margin", lambda image: 0)
    problems = [(kspace.numpy(), mask.lines) for kspace, mask in _several((3, 1, 16, 19))]
    seen: list[Progress] = []
    result = reconstruct_batch(problems, method="unet", model=model["unet"], on_progress=seen.append)
    assert [r.image.device.type for r in result] == ["cpu"] * 3
    assert [(p.stage, p.iteration, p.total) for p in seen] == [
        ("prepare", 0, None),
        ("network", 0, 9),
        ("network", 8, 9),
        ("network", 9, 9),
    ]
    assert reconstruct_batch([], method="unet") == []


@pytest.mark.usefixtures("third_party")
def test_a_method_of_another_package_takes_a_batch() -> None:
    assert can_batch("together")
    assert not can_batch("half")
    problems = _several((2, 3, 16, 19))
    assert len({mask.num_lines for _, mask in problems}) > 1
    for (kspace, mask), one in zip(problems, reconstruct_batch(problems, method="together", factor=2), strict=True):
        torch.testing.assert_close(one.image, 2 * kspace[:, 0])
        assert (one.method, one.info["lines"], one.info["batch_size"]) == ("together", mask.num_lines, 3)
    with pytest.raises(MethodError, match="one of unet, unrolled, forgetful, together, unfinished, got 'half'"):
        reconstruct_batch(problems, method="half")


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("forgetful", r"expected a batch to return a list of 3 \(image, info\), got 1: repair"),
        ("unfinished", "expected a finite image, got one with infinite or not-a-number pixels in slice 0"),
        ("mistaken", "expected its attribute batch to be a function, got int: repair it"),
    ],
)
def test_a_broken_batch_of_another_package(name: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        reconstruct_batch(_several((1, 1, 17, 22)), method=name)


def test_every_built_in_method_has_an_entry_that_loads() -> None:
    for name in BUILT_IN:
        assert callable(get_method(name))
        assert method_summary(name).endswith(".")


def test_which_model_was_used(model: dict[str, str]) -> None:
    kspace, mask = _masked(1, 1, 17, 22)
    used = reconstruct(kspace, mask, method="unet", model=model["unet"]).model
    assert used is not None
    assert used.name
    assert used.sha256 == hashlib.sha256(Path(model["unet"]).read_bytes()).hexdigest()
    assert reconstruct(kspace, mask, method="zero-filled").model is None


def test_which_methods_take_a_batch() -> None:
    assert [name for name in BUILT_IN if can_batch(name)] == ["unet", "unrolled"]
    with pytest.raises(MethodError, match="expected one of the methods"):
        can_batch("dream")


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (None, {"method": "cs-wavelet"}, MethodError, "takes several problems at once, one of unet, unrolled, got 'cs"),
        (None, {"method": "unet", "prewhiten": "edge"}, MethodError, "got 'prewhiten'"),
        (None, {"method": "unet", "device": "moon"}, MethodError, "expected a device of this machine"),
        ((1, 1, 17, 24), {"method": "unet"}, ShapeError, r"one shape, got k-space of \(1, 1, 17, 22\), \(1, 1, 17, 24"),
    ],
)
def test_batches_that_cannot_be(
    change: tuple[int, ...] | None, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    problems = _several((1, 1, 17, 22)) + ([_masked(*change)] if change else [])
    with pytest.raises(error, match=message):
        reconstruct_batch(problems, **options)


def test_a_batch_checks_every_problem(model: dict[str, str]) -> None:
    problems = _several((1, 1, 17, 22))
    kspace, mask = problems[1]
    problems[1] = (torch.ones_like(kspace), mask)
    with pytest.raises(MaskError, match="expected k-space that is zero outside the mask"):
        reconstruct_batch(problems, method="unet", model=model["unet"])


def test_large_slices_take_turns_on_a_processor(model: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_PIXELS_AT_ONCE", 2 * 17 * 22 + 1)
    monkeypatch.setattr(inference, "wrap_margin", lambda image: 0)
    seen: list[Progress] = []
    reconstruct_batch(_several((1, 1, 17, 22)), method="unet", model=model["unet"], on_progress=seen.append)
    assert [p.iteration for p in seen if p.stage == "network"] == [0, 2, 3]
    monkeypatch.setattr(inference, "_PIXELS_AT_ONCE", 5)
    _assert_as_alone(_several((1, 1, 17, 22)), "unet", model=model["unet"])
