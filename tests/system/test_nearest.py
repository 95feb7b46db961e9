"""A name that is nearly right: the error says which was probably meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mri_recon as mr
from mri_recon._system.nearest import did_you_mean
from mri_recon._system.outputs import check_suffix
from mri_recon.cli import build_app
from mri_recon.cli.options import options_by_method
from mri_recon.errors import MriReconError
from mri_recon.io.masks import load_mask
from mri_recon.methods.table import check_options
from mri_recon.models.checkpoint import load_named
from mri_recon.results.comparison import check_methods
from mri_recon_data.registry import load_registry
from mri_recon_service.client.formats import media_type
from mri_recon_training.config import parse_config
from mri_recon_training.toml_config import config_file

METHODS = ["zero-filled", "cg-sense", "cs-wavelet", "unet", "unrolled", "auto"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("cs-wavlet", "cs-wavelet"),
        ("CS_Wavelet", "cs-wavelet"),
        ("zero filled", "zero-filled"),
        ("UNet", "unet"),
        ("unroled", "unrolled"),
        (" auto ", "auto"),
    ],
)
def test_the_nearest_name(name: str, meant: str) -> None:
    assert did_you_mean(name, METHODS) == f" (did you mean {meant!r}?)"


@pytest.mark.parametrize("name", ["", "grappa", "x" * 1_000_000, None, 3, ["unet"]])
def test_nothing_is_near(name: object) -> None:
    assert did_you_mean(name, METHODS) == ""


def test_among_no_names() -> None:
    assert did_you_mean("unet", []) == ""


def _named(*names: str) -> dict[str, Any]:
    return {name: np.ones((1, 1, 8, 8), dtype=np.complex64) for name in names}


def _other_array(folder: Path) -> None:
    np.savez(folder / "two.npz", **_named("kspace", "noise"))
    mr.load(folder / "two.npz", variable="ksapce")


def _missing_file(folder: Path) -> None:
    (folder / "knee_0001.h5").touch()
    mr.load(folder / "knee_001.h5")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "method": (lambda _: check_options("cs-wavlet", {}), "cs-wavelet"),
    "option": (lambda _: check_options("cs-wavelet", {"reg_weigth": 1.0}), "reg_weight"),
    "prior": (lambda _: check_options("cs-wavelet", {"prior": "stationery"}), "stationary"),
    "candidate": (
        lambda _: (
            check_options("auto", {})
            or mr.reconstruct(
                np.ones((1, 1, 8, 8), dtype=np.complex64), np.ones(8, dtype=bool), method="auto", candidates="unrolld"
            )
        ),
        "unrolled",
    ),
    "check": (
        lambda _: mr.reconstruct(
            np.ones((1, 1, 8, 8), dtype=np.complex64), np.ones(8, dtype=bool), method="zero-filled", check="hold-out"
        ),
        "holdout",
    ),
    "options of a method": (lambda _: check_methods(["unet"], {"u-net": {}}), "unet"),
    "METHOD.OPTION": (lambda _: options_by_method(["unrolld.adapt=3"], ["unrolled"]), "unrolled"),
    "phase": (lambda _: check_options("cs-wavelet", {"phase": "centre"}), "center"),
    "model": (lambda _: load_named("unrolled-0.2"), "unrolled-0.1"),
    "kind of mask": (lambda _: mr.MaskChoice(acceleration=4, kind="equispace").choose(mr.sample()), "equispaced"),
    "suffix of a mask": (lambda folder: load_mask(folder / "mask.npyy"), ".npy"),
    "array": (_other_array, "kspace"),
    "file": (_missing_file, "knee_0001.h5"),
    "suffix": (lambda folder: check_suffix(folder / "out.h55", (".h5", ".png")), ".h5"),
    "data set": (lambda _: load_registry().get("hed-child-mprage"), "head-child-mprage"),
    "split": (lambda _: load_registry().files(split="tests"), "test"),
    "configuration": (lambda _: config_file(Path("unroled")), "unrolled"),
    "key": (lambda _: parse_config({"run": {"stepz": 3}}), "steps"),
    "optimizer": (lambda _: parse_config({"optimizer": {"name": "adamww"}}), "adamw"),
    "format of the service": (lambda _: media_type("out.h55", "reconstruction"), ".h5"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_where_names_are_refused(kind: str, tmp_path: Path) -> None:
    refuse, meant = REFUSED[kind]
    with pytest.raises(MriReconError) as caught:
        refuse(tmp_path)
    assert f"(did you mean {meant!r}?)" in str(caught.value)


def test_verbs_and_their_options() -> None:
    said = CliRunner().invoke(build_app(), ["compar", "x"], env={"COLUMNS": "200"}).output
    assert "'compare'" in said
    said = CliRunner().invoke(build_app(), ["compare", "x", "--aceleration", "4"], env={"COLUMNS": "200"}).output
    assert "--acceleration" in said
