from __future__ import annotations

from pathlib import Path

import torch

from mri_recon.models.inference import image_scale
from mri_recon_data.examples.slices import FolderSlices
from mri_recon_data.examples.stream import ExampleStream
from tests.support.examples import CONFIG, small_registry
from tests.support.fastmri_files import write_fastmri


def _samples(stream: ExampleStream, number: int) -> torch.Tensor:
    return stream[number][0].measurement.samples


def test_an_item_depends_on_seed_and_number_alone() -> None:
    streams = [ExampleStream(small_registry(), CONFIG, seed=seed, batch_size=1, steps=9) for seed in (3, 3, 4)]
    assert torch.equal(_samples(streams[0], 7), _samples(streams[1], 7))
    assert torch.equal(streams[0][7][0].target, streams[1][7][0].target)
    differing = [_samples(streams[0], 7), _samples(streams[0], 6), _samples(streams[2], 7)]
    for i in range(3):
        for j in range(i):
            assert differing[i].shape != differing[j].shape or not torch.equal(differing[i], differing[j])


def test_the_examples_of_a_batch_have_equally_many_rows() -> None:
    config = CONFIG.model_copy(update={"full_probability": 0.0})
    stream = ExampleStream(small_registry(), config, seed=0, batch_size=4, steps=10)
    for step in range(10):
        heights = {example.target.shape[0] for example in stream[step]}
        assert len(heights) == 1
        assert len(stream[step]) == 4
        for example in stream[step]:
            assert example.measurement.adjoint()[0].shape == example.target.shape
        assert {example.valid[0] for example in stream[step]} == heights


def test_examples_are_scaled_and_differ_from_their_target() -> None:
    stream = ExampleStream(small_registry(), CONFIG, seed=0, batch_size=1, steps=30)
    for step in range(30):
        (example,) = stream[step]
        image = example.measurement.adjoint()
        assert 0.1 < float(image_scale(image)) < 3
        assert (image[0] - example.target).norm() > 0.01 * example.target.norm()


def test_folder_examples_of_the_published_size_are_judged_on_the_recon_size(tmp_path: Path) -> None:
    path = write_fastmri(tmp_path / "knee.h5", shape=(2, 15, 640, 368), recon=(320, 320))
    slices = FolderSlices.index([path])
    assert len(slices.slices) == 2
    config = CONFIG.model_copy(update={"rows": 64})
    (example,) = ExampleStream(slices, config, seed=0, batch_size=1, steps=1)[0]
    assert example.target.shape == (64, 368)
    assert example.measurement.maps.shape == (1, 15, 64, 368)
    assert example.valid == (64, 320)
