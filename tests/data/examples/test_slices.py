from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from mri_recon_data import registry
from mri_recon_data.examples import slices as slices_module
from mri_recon_data.examples.config import DataConfig
from mri_recon_data.examples.folder_split import split_folder
from mri_recon_data.examples.raw_slice import RawSlice
from mri_recon_data.examples.slices import FolderSlices, RegistrySlices, read_slices
from mri_recon_data.examples.stream import ExampleStream
from mri_recon_data.examples.validation import validation_examples
from mri_recon_data.registry import SPLITS
from mri_recon_data.scenes.images import ImageSlice, load_slices
from mri_recon_data.simulation.image_slice import SimulationConfig

from mri_recon.errors import ConfigError, DataError
from mri_recon.models.inference import image_scale
from mri_recon.transforms.fourier import fft2c
from tests.support.fastmri_files import write_fastmri


def _registry_like() -> RegistrySlices:
    rng = np.random.default_rng(0)
    image = np.zeros((60, 50), np.float16)
    image[10:50, 12:40] = rng.uniform(0.5, 1, (40, 28))
    support = np.ones(21, dtype=bool)
    support[[0, 20]] = False
    kspace = fft2c(torch.view_as_complex(torch.from_numpy(rng.normal(size=(1, 33, 21, 2)).astype(np.float32))))
    kspace[..., ~torch.from_numpy(support)] = 0
    return RegistrySlices(
        (RawSlice(kspace, support),),
        (ImageSlice(image, "images/studyforrest-t1w"), ImageSlice(image, "images/brain-ms")),
    )


CONFIG = DataConfig.model_validate(
    {"rows": 16, "simulation": {"min_size": 24}, "sampling": {"acceleration": (2, 4)}, "validation_slices": 8}
)


def _samples(stream: ExampleStream, number: int) -> torch.Tensor:
    return stream[number][0].measurement.samples


def test_an_item_depends_on_seed_and_number_alone() -> None:
    streams = [ExampleStream(_registry_like(), CONFIG, seed=seed, batch_size=1, steps=9) for seed in (3, 3, 4)]
    assert torch.equal(_samples(streams[0], 7), _samples(streams[1], 7))
    assert torch.equal(streams[0][7][0].target, streams[1][7][0].target)
    differing = [_samples(streams[0], 7), _samples(streams[0], 6), _samples(streams[2], 7)]
    for i in range(3):
        for j in range(i):
            assert differing[i].shape != differing[j].shape or not torch.equal(differing[i], differing[j])


def test_the_examples_of_a_batch_have_equally_many_rows() -> None:
    config = CONFIG.model_copy(update={"full_probability": 0.0})
    stream = ExampleStream(_registry_like(), config, seed=0, batch_size=4, steps=10)
    for step in range(10):
        heights = {example.target.shape[0] for example in stream[step]}
        assert len(heights) == 1
        assert len(stream[step]) == 4
        for example in stream[step]:
            assert example.measurement.adjoint()[0].shape == example.target.shape
        assert {example.valid[0] for example in stream[step]} == heights


def test_examples_are_scaled_and_differ_from_their_target() -> None:
    stream = ExampleStream(_registry_like(), CONFIG, seed=0, batch_size=1, steps=30)
    for step in range(30):
        (example,) = stream[step]
        image = example.measurement.adjoint()
        assert 0.1 < float(image_scale(image)) < 3
        assert (image[0] - example.target).norm() > 0.01 * example.target.norm()


def test_validation_has_raw_and_simulated_at_both_accelerations() -> None:
    # Large enough that the centre at 8x has the two lines that maps need.
    config = CONFIG.model_copy(update={"simulation": SimulationConfig(min_size=50)})
    examples = validation_examples(_registry_like(), config, seed=0)
    assert {name for name, _ in examples} == {
        f"{kind}-{r}x" for kind in ("raw", "simulated-1coil", "simulated-8coil") for r in (4, 8)
    }
    again = validation_examples(_registry_like(), config, seed=0)
    for (_, a), (_, b) in zip(examples, again, strict=True):
        assert torch.equal(a.measurement.samples, b.measurement.samples)
        assert torch.equal(a.target, b.target)


def test_folder_is_split_by_person(fastmri_folder: Path) -> None:
    train, validation = split_folder(DataConfig(root=str(fastmri_folder)))
    assert {path.name for path in train} | {path.name for path in validation} == {
        path.name for path in fastmri_folder.iterdir()
    }
    for visits in (train, validation):
        names = {path.name for path in visits}
        assert ("file0.h5" in names) == ("file0-visit2.h5" in names)


def test_folder_split_by_a_list(fastmri_folder: Path, tmp_path: Path) -> None:
    lists = tmp_path / "split.json"
    lists.write_text(json.dumps({"train": ["file1.h5"], "validation": ["file2.h5"]}))
    train, validation = split_folder(DataConfig(root=str(fastmri_folder), split_file=str(lists)))
    assert [path.name for path in train] == ["file1.h5"]
    assert [path.name for path in validation] == ["file2.h5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"train": ["file1.h5"]}', "expected JSON"),
        ("nonsense", "expected JSON"),
        ('{"train": ["file1.h5"], "validation": ["file7.h5"]}', r"files missing in data\.root: \['file7\.h5'\]"),
        ('{"train": ["file1.h5"], "validation": ["file1.h5"]}', r"in both splits: \['file1\.h5'\]"),
    ],
)
def test_bad_lists(fastmri_folder: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        split_folder(DataConfig(root=str(fastmri_folder), split_file=str(tmp_path / "split.json")))


def test_no_folder_and_one_person(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a folder with fastMRI files \(\*\.h5\), found none"):
        split_folder(DataConfig(root=str(tmp_path / "nosuch")))
    write_fastmri(tmp_path / "a.h5")
    with pytest.raises(ConfigError, match="expected files of at least two persons, got 0 training and 1 validation"):
        split_folder(DataConfig(root=str(tmp_path)))


def test_folder_examples_of_the_published_size_are_judged_on_the_recon_size(tmp_path: Path) -> None:
    path = write_fastmri(tmp_path / "knee.h5", shape=(2, 15, 640, 368), recon=(320, 320))
    slices = FolderSlices.index([path])
    assert len(slices.slices) == 2
    config = CONFIG.model_copy(update={"rows": 64})
    (example,) = ExampleStream(slices, config, seed=0, batch_size=1, steps=1)[0]
    assert example.target.shape == (64, 368)
    assert example.measurement.maps.shape == (1, 15, 64, 368)
    assert example.valid == (64, 320)


def test_no_slices() -> None:
    with pytest.raises(DataError, match="expected at least one slice of fastMRI files, found none"):
        FolderSlices.index([])


def test_empty_slices_are_left_out_and_named(tmp_path: Path) -> None:
    paths = [write_fastmri(tmp_path / f"{name}.h5", shape=(4, 2, 24, 20), recon=(24, 20)) for name in "ab"]
    with h5py.File(paths[0], "a") as file:
        file["kspace"][0] = 0
        file["kspace"][3] = 0
        file["kspace"][2] = 0
        file["kspace"][2, 1, 3, 4] = 1  # one sample off the middle is data
    with h5py.File(paths[1], "a") as file:
        file["kspace"][1] = 0
    slices = FolderSlices.index(paths)
    assert slices.slices == tuple(
        (path, n) for path, kept in zip(paths, ([1, 2], [0, 2, 3]), strict=True) for n in kept
    )
    assert slices.skipped() == [
        "a.h5: slices 0, 3 hold no data (zeros only) and are left out",
        "b.h5: slice 1 holds no data (zeros only) and is left out",
    ]
    with h5py.File(paths[0], "a") as file:
        file["kspace"][...] = 0
    with pytest.raises(DataError, match="expected at least one slice of fastMRI files, found none but 4 empty ones"):
        FolderSlices.index(paths[:1])


def test_image_of_an_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image reader for images/other/a.nii.gz: expected a file under one of"):
        load_slices([("images/other/a.nii.gz", tmp_path / "a.nii.gz")])
    with pytest.raises(DataError, match="expected at least one image file, got none"):
        load_slices([])


@pytest.mark.parametrize("changed", [{"tight": 1.0}, {"content": {"shapes": 1.0, "bright_rim": 1.0}}])
def test_validation_is_what_it_is_whatever_is_made_up_in_training(changed: dict[str, object]) -> None:
    y, x = np.mgrid[-1:1:120j, -1:1:110j]
    image = ImageSlice(((x / 0.5) ** 2 + (y / 0.7) ** 2 < 1).astype(np.float16), "test")
    slices = RegistrySlices((), (image,))
    plain, other = (
        validation_examples(slices, DataConfig(validation_slices=4, simulation=SimulationConfig(**simulation)), seed=0)  # type: ignore[arg-type]
        for simulation in ({}, changed)
    )
    assert [kind for kind, _ in plain] == [kind for kind, _ in other]
    for (_, one), (_, two) in zip(plain, other, strict=True):
        assert torch.equal(one.target, two.target)


def test_who_can_be_held_out() -> None:
    with pytest.raises(
        ConfigError, match=r"data\.hold_out: expected one of the training persons ulf-.*, got 'ms-patient-20'"
    ):
        read_slices(DataConfig(hold_out="ms-patient-20"))  # a validation person
    with pytest.raises(ConfigError, match=r"data\.hold_out: expected the sets of the registry"):
        read_slices(DataConfig(hold_out="ulf-patient-6a", root="files"))


@pytest.mark.real_data
def test_a_person_held_out_is_nowhere(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {split: [file for file in registry.files(split=split) if "Fig" in file.name] for split in SPLITS}
    monkeypatch.setattr(slices_module, "registered_files", lambda split: files[split])  # the others take long to read
    training, validation = read_slices(DataConfig(hold_out="ulf-patient-6a"))
    assert isinstance(training, RegistrySlices)
    assert isinstance(validation, RegistrySlices)
    scans = {file: file.load() for file in files["train"] if file.kind == "raw"}
    others = [scan.kspace for file, scan in scans.items() if file.person != "ulf-patient-6a"]
    mine = [scan.kspace for file, scan in scans.items() if file.person == "ulf-patient-6a"]
    assert len(training.raw) == sum(kspace.shape[0] for kspace in others) > 0
    for raw in (*training.raw, *validation.raw):
        assert not any(torch.equal(raw.kspace, one) for kspace in mine for one in kspace)
    assert not training.images  # only this patient's 3 T images were among the files
    assert validation.raw
    assert validation.images


@pytest.mark.real_data
def test_registry_slices_have_their_true_support(real_data: Path) -> None:
    files = [("images/brain-ms/patient20/study2_T1W.nii.gz", real_data / "images/brain-ms/patient20/study2_T1W.nii.gz")]
    slices = load_slices(files)
    assert {piece.magnitude.shape for piece in slices} == {(166, 256)}  # 0.65 of 256 along the zero-filled axis
    assert all(0.2 < float(piece.magnitude.max()) < 10 for piece in slices)
