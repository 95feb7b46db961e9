"""The registry's rules: persons in one split, nothing unknown, nothing missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mri_recon.errors import DataError
from mri_recon_data import registry
from mri_recon_data.cli import app
from mri_recon_data.registry import SPLITS

DIGEST = "0" * 64
MINIMAL = f"""
[persons]
"anna" = "train"

[[set]]
name = "one"
folder = "raw/one"
kind = "raw"
world = "this scanner"
title = "a set"
axes = "readout phase"
licence = "CC0-1.0"
citation = "somebody"
repository = "owner/repository"
commit = "abc"
files = [{{ path = "a b.mat", person = "anna", source_path = "Figure 1/a b.mat", sha256 = "{DIGEST}" }}]
"""


def test_a_minimal_registry() -> None:
    data = registry.parse_registry(MINIMAL)
    (file,) = data.files()
    assert file.name == "raw/one/a b.mat"
    assert file.split == "train"
    assert file.url == "https://raw.githubusercontent.com/owner/repository/abc/Figure%201/a%20b.mat"
    assert file.world == "this scanner"
    assert file.scans() == [file]
    assert data.get("one").source == "https://github.com/owner/repository at abc"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "raw"', 'kind = "raw"\nlicense = "x"', "set.0.license: Extra inputs are not permitted"),
        ('kind = "raw"', 'kind = "film"', "set.0.kind: Input should be 'raw', 'image' or 'phantom'"),
        ('axes = "readout phase"', "", "raw k-space needs its axes"),
        ('commit = "abc"', "", "repository and commit belong together"),
        ('repository = "owner/repository"\ncommit = "abc"', "", "has a source_path, but the set no repository"),
        ('source_path = "Figure 1/a b.mat", ', "", "needs a source_path, or the set a `manual` way"),
        ('"anna" = "train"', '"anna" = "train"\n"ben" = "test"', "persons differ: ben"),
        ('person = "anna"', 'person = "ben"', "persons differ: anna, ben"),
        ('"anna" = "train"', '"anna" = "holdout"', "persons.anna: Input should be 'train'"),
        ('path = "a b.mat"', 'path = "../b.mat"', "path '../b.mat' leaves its folder"),
        ('path = "a b.mat"', 'path = "/b.mat"', "path '/b.mat' leaves its folder"),
        (DIGEST, "12", "sha256: String should match pattern"),
        ("[persons]", "[persons", "not TOML"),
        ('world = "this scanner"\n', "", "set.0.world: Field required"),
        ('world = "this scanner"', 'world = ""', "set.0.world: String should have at least 1 character"),
        ('person = "anna"', 'person = "anna", parts = [{ variable = "a" }]', "parts.0.contrast: Field required"),
        (
            'person = "anna"',
            'person = "anna", parts = [{ variable = "a", contrast = "1" }, { variable = "a", contrast = "2" }]',
            "set one: variable of the parts of a b.mat, a is there twice",
        ),
    ],
)
def test_what_is_wrong_is_said(old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    with pytest.raises(DataError, match=re.escape(message)):
        registry.parse_registry(MINIMAL.replace(old, new))


def test_names_are_unique() -> None:
    second = MINIMAL[MINIMAL.index("[[set]]") :]
    with pytest.raises(DataError, match="set one is there twice"):
        registry.parse_registry(MINIMAL + second)
    with pytest.raises(DataError, match=re.escape("file raw/one/a b.mat is there twice")):
        registry.parse_registry(MINIMAL + second.replace('"one"', '"two"'))


def test_no_person_is_in_two_splits() -> None:
    """Nor is a file without person or digest: the model refuses that. Here the shipped content, person by person."""
    splits: dict[str, set[str]] = {}
    for file in registry.files():
        splits.setdefault(file.person, set()).add(file.split)
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == set(SPLITS)


def test_patients_keep_their_split_across_scanners() -> None:
    """The 0.055 T and 3 T files of Figures 6A, 6B and 7A show the same three patients."""
    for figure, split in (("Fig6A", "train"), ("Fig6B", "validation"), ("Fig7A", "test")):
        found = [file for file in registry.files() if f"/{figure}__" in file.name]
        assert {file.kind for file in found} == {"raw", "image"}
        assert {file.split for file in found} == {split}
        assert len({file.person for file in found}) == 1


def test_the_test_scans_are_the_agreed_ones() -> None:
    names = [file.name.split("/")[1] for file in registry.files(split="test", kind="raw", fully_sampled=True)]
    assert sorted(set(names)) == ["brain-0.055T", "brain-16ch", "head-sagittal-t1", "rodent-head-9.4T"]
    assert len(names) == 7
    (poisson,) = registry.files(split="test", kind="raw", fully_sampled=False)
    assert poisson.set_name == "brain-8ch-undersampled"


def test_the_sample_is_never_trained_on() -> None:
    assert {file.set_name for file in registry.files(split="sample")} == {"colin27"}
    assert "colin27" not in {row["name"] for row in registry.training_sources()}


def test_training_sources_name_persons_and_licences() -> None:
    rows = registry.training_sources()
    assert {row["split"] for row in rows} == {"train", "validation"}
    assert all(row["persons"] and row["licence"] and row["citation"] and row["source"] for row in rows)
    (ms,) = [row for row in rows if row["name"] == "brain-ms" and row["split"] == "validation"]
    assert ms["persons"] == ["ms-patient-20"]
    assert "simulated" in ms["kind"]


def test_a_person_held_out_is_in_no_row() -> None:
    everybody, rows = registry.training_sources(), registry.training_sources(hold_out="ulf-patient-6a")
    for split in ("train", "validation"):
        before, after = ({p for row in of if row["split"] == split for p in row["persons"]} for of in (everybody, rows))
        assert after == before - {"ulf-patient-6a"}
    # The 3 T set has no other training person.
    assert ("brain-3T", "train") not in {(row["name"], row["split"]) for row in rows}


def test_unknown_names_are_errors() -> None:
    with pytest.raises(DataError, match="unknown split 'dev': expected one of train, validation, test, sample"):
        registry.files(split="dev")
    with pytest.raises(DataError, match="unknown data set 'knee': expected one of brain-0.055T, head-sagittal-t1"):
        registry.files(name="knee")
    with pytest.raises(DataError, match="unknown kind 'film': expected one of raw, image, phantom"):
        registry.files(kind="film")  # type: ignore[arg-type]


def test_magnitude_images_do_not_load_as_kspace() -> None:
    (colin,) = registry.files(name="colin27")
    with pytest.raises(DataError, match="magnitude images hold no k-space"):
        colin.load()


def test_list_shows_every_set() -> None:
    result = CliRunner().invoke(app, ["list"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for data_set in registry.load_registry().sets:
        assert data_set.name in result.stdout
        assert data_set.licence.split()[0] in result.stdout


def test_every_registered_file_is_the_registered_one(real_data: Path) -> None:
    for file in registry.files():
        assert file.path() == real_data / file.name


def test_every_raw_file_loads(real_data: Path) -> None:
    shapes = {}
    for file in registry.files(kind="raw"):
        scan = file.load()
        assert scan.fully_sampled is file.fully_sampled, file.name
        assert scan.meta["registry"] == {"file": file.name, "person": file.person, "split": file.split}
        shapes[file.name.split("/")[-1]] = tuple(scan.kspace.shape)
    assert shapes["Fig7A__0.055T_GRE_kspace_postEMI.mat"] == (4, 1, 128, 196)
    assert shapes["Fig4A__0.055T_3DGRE_Coronal_2D_kspace.mat"] == (10, 1, 128, 196)
    assert shapes["se_t1_sag_data.mat"] == (1, 1, 256, 256)
    assert shapes["cartesian_ksp.npy"] == (1, 8, 230, 180)


def test_fetch_prints_local_paths(real_data: Path) -> None:
    result = CliRunner().invoke(app, ["fetch", "head-sagittal-t1"])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(real_data / "raw/head-sagittal-t1/se_t1_sag_data.mat")
    assert "MIT" in result.stderr


def test_phantoms_are_nobody() -> None:
    """They are in a split of their own kind, in no model card, and neither raw scans nor images."""
    phantoms = registry.files(kind="phantom")
    assert {file.split for file in phantoms} == {"train", "validation"}
    persons = {file.person for file in phantoms}
    assert not persons & {file.person for kind in ("raw", "image") for file in registry.files(kind=kind)}
    assert not persons & {person for row in registry.training_sources() for person in row["persons"]}
    validation = {file.set_name for file in phantoms if file.split == "validation"}
    assert validation == {"phantom-siemens-16ch", "phantom-siemens-2ch", "phantom-siemens-1ch"}


def test_faces_are_marked() -> None:
    assert {file.set_name for file in registry.files() if file.no_pictures} == {"head-child-mprage", "head-axial"}
    assert registry.load_registry().get("head-child-mprage").files[0].series


def test_a_series_is_one_volume() -> None:
    groups = registry.volumes(registry.files(kind="image", split="train"))
    sizes = {group[0].set_name: len(group) for group in groups}
    assert sizes["head-child-mprage"] == 192
    assert all(count == 1 for name, count in sizes.items() if name != "head-child-mprage")
    series = MINIMAL.replace('kind = "raw"', 'kind = "image"\nseries = true').replace(
        "files = [", f'files = [{{ path = "c.dcm", person = "ben", source_path = "c", sha256 = "{DIGEST}" }}, '
    )
    with pytest.raises(DataError, match="a series is one volume of one person"):
        registry.parse_registry(series.replace("[persons]", '[persons]\n"ben" = "train"'))


def test_companions_come_with_their_file() -> None:
    (rodent,) = registry.files(name="rodent-head-9.4T")
    (procpar,) = rodent.companions
    assert procpar.name == "raw/rodent-head-9.4T/procpar"
    assert procpar.url is not None
    assert procpar.url.endswith("/sems_20190407_07.fid/procpar")
    assert procpar.sha256 != rodent.sha256
    assert procpar.parts == ()


def test_parts_of_a_file_are_scans_of_their_own() -> None:
    (rodent,) = registry.files(name="rodent-head-9.4T")
    scans = rodent.scans()
    assert [scan.variable for scan in scans] == [f"array={number}" for number in range(12)]
    assert (scans[0].contrast, scans[-1].contrast) == ("TI 10 ms", "TI 3000 ms")
    assert {(scan.name, scan.person, scan.parts) for scan in scans} == {(rodent.name, "rodent-9.4t", ())}


def test_every_set_names_its_world() -> None:
    """The test split reaches beyond the scanner and the anatomy of the training."""
    worlds = {(file.kind, file.world) for file in registry.files(split="test")}
    assert worlds == {
        ("raw", "training scanner, head"),
        ("raw", "other scanner, head"),
        ("raw", "several coils, head"),
        ("raw", "other anatomy, rodent head"),
        ("image", "head"),
        ("image", "other anatomy, body"),
    }
    assert {file.world for file in registry.files(kind="phantom")} == {"phantom"}
    trained = {file.world for file in registry.files(split="train")}
    assert not [world for world in trained if world.startswith("other")]


def test_every_part_loads(real_data: Path) -> None:
    (rodent,) = registry.files(name="rodent-head-9.4T")
    arrays = [scan.load().meta["array"] for scan in rodent.scans()[::5]]
    assert arrays == [0, 5, 10]
