from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mri_recon.errors import CheckpointError
from mri_recon.models import Unet, UnetConfig, Unrolled, UnrolledConfig, checkpoint, measure
from mri_recon.models.checkpoint import (
    ModelCard,
    build_network,
    load_checkpoint,
    load_named,
    save_checkpoint,
    shipped_models,
)
from mri_recon.models.training_range import Envelope
from tests.support.helpers import complex_randn
from tests.support.networks import tiny_network

CONFIG = UnetConfig(chans=4, num_pool_layers=2)


def _card(**changes: object) -> ModelCard:
    fields = {
        "name": "tiny",
        "architecture": "unet",
        "config": CONFIG.model_dump(),
        "description": "a test",
        "envelope": Envelope(acceleration=(2, 10), num_coils=(1, 16), anatomy="head"),
        "data": [],
        "training": {},
        "loss_curve": [{"step": 1.0, "psnr": 20.0}],
    }
    return ModelCard.model_validate(fields | changes)


def _saved(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Path, Unet]:
    torch.manual_seed(1)
    network = Unet(CONFIG)
    torch.nn.init.normal_(network.head.weight)
    path = folder / "tiny.safetensors"
    save_checkpoint(path, network, _card(), dtype=dtype)
    return path, network.eval()


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path, network = _saved(tmp_path)
    loaded = load_checkpoint(path)
    x = torch.randn(1, 2, 13, 10)
    assert torch.equal(loaded.network(x), network(x))
    assert loaded.card.loss_curve == [{"step": 1.0, "psnr": 20.0}]
    assert loaded.sha256 == loaded.card.sha256 != ""
    assert not any(p.requires_grad for p in loaded.network.parameters())


def test_bfloat16_is_half_the_size_and_close(tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    full, network = _saved(tmp_path)
    half, _ = _saved(tmp_path / "half", torch.bfloat16)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    x = torch.randn(1, 2, 13, 10)
    y = load_checkpoint(half).network(x)
    assert y.dtype == torch.float32
    assert (y - network(x)).norm() < 0.05 * network(x).norm()


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path, _ = _saved(tmp_path)
    payload = bytearray(path.read_bytes())
    payload[-1] ^= 1
    path.write_bytes(payload)
    with pytest.raises(CheckpointError, match="expected SHA-256 .*, got .*: the file is damaged"):
        load_checkpoint(path)


def test_no_card_no_network(tmp_path: Path) -> None:
    path, _ = _saved(tmp_path)
    path.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match=r"tiny\.json is missing"):
        load_checkpoint(path)


def test_card_with_an_unknown_key(tmp_path: Path) -> None:
    path, _ = _saved(tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | {"magic": 1}))
    with pytest.raises(CheckpointError, match="magic"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "gan"}, "unknown architecture 'gan': expected one of unet, unrolled"),
        ({"config": CONFIG.model_dump() | {"chans": 8}}, "do not fit the network of its card"),
        ({"config": {"channels": 8}}, "configuration of unet: channels"),
    ],
)
def test_card_of_another_network(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path, _ = _saved(tmp_path)
    sha256 = load_checkpoint(path).sha256
    path.with_suffix(".json").write_text(_card(sha256=sha256, **changes).model_dump_json())
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path, _ = _saved(tmp_path)
    torch.save({"a": torch.zeros(1)}, path)
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = checkpoint.hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(path)


def test_other_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected a path ending in \.safetensors, got tiny\.pt"):
        save_checkpoint(tmp_path / "tiny.pt", Unet(CONFIG), _card())


def test_unknown_name_lists_the_shipped() -> None:
    with pytest.raises(CheckpointError, match="unknown model 'unett' .*'unet'.*: expected one of .*unet"):
        load_named("unett")


def test_path_of_weights_is_a_model_and_new_weights_are_seen(tmp_path: Path) -> None:
    path, _ = _saved(tmp_path)
    first = load_named(str(path)).sha256
    save_checkpoint(path, Unet(CONFIG), _card())
    assert load_named(str(path)).sha256 != first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_unrolled_network_comes_back(tmp_path: Path, dtype: torch.dtype) -> None:
    network = tiny_network("unrolled", maps_chans=2)
    card = _card(architecture="unrolled", config=network.config.model_dump())
    save_checkpoint(tmp_path / "tiny.safetensors", network, card, dtype=dtype)
    loaded = load_checkpoint(tmp_path / "tiny.safetensors")
    assert isinstance(loaded.network, Unrolled)
    assert loaded.network.config == network.config
    kspace = complex_randn(1, 2, 9, 14, dtype=torch.complex64)
    measurement = measure(kspace, torch.ones(14, dtype=torch.bool), kspace / kspace.abs())
    with torch.no_grad():
        before, after = network(measurement), loaded.network(measurement)
    assert (after - before).norm() <= (0 if dtype == torch.float32 else 0.05) * before.norm()


def test_configuration_of_the_other_architecture(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="configuration of unrolled: drop_prob"):
        build_network("unrolled", {"drop_prob": 0.1})
    assert isinstance(build_network("unrolled", UnrolledConfig().model_dump()), Unrolled)


def test_shipped_weights_are_whole_small_and_documented() -> None:
    models = shipped_models()
    assert "unet" in models
    for name, path in models.items():
        assert path.stat().st_size <= 20e6
        card = load_checkpoint(path).card
        assert card.name == name
        assert card.loss_curve
        assert "Research only" in card.intended_use
        for source in card.data:
            assert source["licence"]
            of_nobody = source["kind"].startswith(("k-space simulated from pictures", "coil sensitivities"))
            assert bool(source["persons"]) != of_nobody
            assert source["split"] in ("train", "validation")
