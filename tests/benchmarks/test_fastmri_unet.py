from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.networks.fastmri_unet import __main__ as cli
from benchmarks.networks.fastmri_unet import networks, page, quality, speed
from benchmarks.networks.fastmri_unet.networks import (
    CONTENDERS,
    REFERENCE,
    Contender,
    build,
    cascade,
    num_parameters,
    released_config,
)
from benchmarks.networks.fastmri_unet.quality import Budget, Run, Study, finished
from benchmarks.networks.fastmri_unet.speed import PLAIN, Entry, Setting, Task
from mri_recon.models import Cascade, Unet, UnetConfig, measure
from mri_recon.models.cascade import IN_CHANS
from mri_recon.transforms.fourier import fft2c
from mri_recon_data.examples.example import Example
from mri_recon_training.train import validate

needs_fastmri = pytest.mark.skipif(
    importlib.util.find_spec("fastmri") is None, reason="fastmri is not installed: pip install --no-deps fastmri"
)

CPU = torch.device("cpu")
FAST = Setting(channels_last=True)


def _tiny(chans: int) -> Contender:
    return Contender(f"{chans} channels", lambda: Unet(UnetConfig(in_chans=IN_CHANS, chans=chans, num_pool_layers=1)))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small networks in place of the large ones."""
    for name in reversed(list(CONTENDERS)):  # so that they come back in order
        monkeypatch.delitem(CONTENDERS, name)
    monkeypatch.setitem(CONTENDERS, REFERENCE, _tiny(4))
    monkeypatch.setitem(CONTENDERS, "ours", _tiny(2))


def _examples(count: int, shape: tuple[int, int] = (17, 22)) -> list[list[Example]]:
    """A bright half, seen at half of its columns: it is folded onto the dark half, which a network can take away."""
    generator = torch.Generator().manual_seed(5)
    examples = []
    for _ in range(count):
        image = torch.zeros(1, 1, *shape, dtype=torch.complex64)
        image[..., : shape[1] // 2] = 0.5 + torch.rand(shape[0], shape[1] // 2, generator=generator)
        mask = torch.zeros(shape[1], dtype=torch.bool)
        mask[::2] = True
        sigma = torch.full((1, 1, 1), 0.01)
        measurement = measure(fft2c(image) * mask, mask, torch.ones_like(image), sigma)
        examples.append([Example(measurement, image[0, 0], shape)])
    return examples


def _run(network: str, seed: int, lr: float, psnr: float) -> dict[str, Any]:
    scores = {"psnr": psnr, "psnr-raw-4x": psnr + 1, "ssim": 0.9}
    return {"network": network, "seed": seed, "lr": lr, "cpu_seconds": 3.5, "validation": scores}


class TestNetworks:
    @needs_fastmri
    def test_fastmri_needs_nothing_but_its_file_and_starts_with_the_image(self) -> None:
        x = torch.randn(1, IN_CHANS, 33, 48)
        network = build(REFERENCE)
        torch.testing.assert_close(network(x), x[:, :2])
        assert type(network.get_submodule("network")).__module__ == "_fastmri_unet"

    @needs_fastmri
    def test_fastmri_learns_from_there(self) -> None:
        network, x = build(REFERENCE), torch.randn(1, IN_CHANS, 32, 32)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            (network(x) - 2 * x[:, :2]).square().mean().backward()
            optimizer.step()
        assert not torch.allclose(network(x), x[:, :2])
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())

    def test_ours_is_the_released_network(self) -> None:
        released = Cascade(released_config())
        assert released_config().num_cascades == 1
        assert cascade("unet").state_dict().keys() == released.state_dict().keys()
        assert num_parameters(cascade("unet")) == num_parameters(released)

    def test_both_stand_behind_the_same_door(self, tiny: None) -> None:
        measurement = _examples(1)[0][0].measurement
        reference, ours = cascade(REFERENCE), cascade("ours")
        torch.testing.assert_close(reference(measurement), ours(measurement))  # untrained: the CG-SENSE image
        assert isinstance(ours.refinements[0], Unet)
        assert ours.refinements[0].config.chans == 2

    def test_missing_package_says_how_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(networks.importlib.util, "find_spec", lambda name: None)
        monkeypatch.delitem(networks.sys.modules, "_fastmri_unet", raising=False)
        with pytest.raises(ModuleNotFoundError, match="pip install --no-deps fastmri"):
            networks.fastmri_module()

    def test_unknown_name_lists_the_known(self) -> None:
        with pytest.raises(ValueError, match="unknown network 'u': expected one of fastmri, unet"):
            build("u")

    def test_seed_draws_the_weights_and_leaves_the_global_generator(self, tiny: None) -> None:
        before = torch.random.get_rng_state()
        a, b, c = (build("ours", seed).state_dict()["bottom.0.weight"] for seed in (1, 1, 2))
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        assert torch.equal(before, torch.random.get_rng_state())


class TestQuality:
    def test_training_lowers_the_loss_and_repeats_itself(self, tiny: None, tmp_path: Path) -> None:
        batches = _examples(1) * 40
        validation = [("raw-4x", batches[0][0])]
        budget = Budget(steps=40, warmup=1)
        before = validate(cascade("ours"), validation)["psnr"]
        runs = [Run("ours", 0, 1e-2), Run(REFERENCE, 0, 1e-2)]
        first, again = (quality.train(runs, budget, batches, validation, tmp_path) for _ in range(2))
        assert first[0]["validation"]["psnr"] > before + 1
        assert [row["validation"] for row in first] == [row["validation"] for row in again]
        assert [row["network"] for row in first] == ["ours", REFERENCE]
        assert first[0]["parameters"] == num_parameters(cascade("ours"))

    def test_resumes_where_it_was_stopped(self, tiny: None, tmp_path: Path) -> None:
        batches = [_examples(3)[i % 3] for i in range(8)]
        validation = [("raw-4x", batches[0][0])]
        budget, runs = Budget(steps=8, warmup=1), [Run("ours", 0, 1e-2), Run(REFERENCE, 0, 1e-2)]
        whole = quality.train(runs, budget, batches, validation, tmp_path / "whole")
        # Stopped after step 6 of the first network only; the states are those of steps 6 and 4.
        stopped = tmp_path / "stopped"
        stopped.mkdir()
        for run, steps in zip(runs, (6, 4), strict=True):
            state = stopped / f"{run.name}.safetensors"
            pupil = quality.Pupil.of(run, budget.config(run.lr), state)
            for batch in batches[:steps]:
                pupil.learn(batch, budget.config(run.lr))
            pupil.save(state)
        resumed = quality.train(runs, budget, batches, validation, stopped)
        for row, expected in zip(resumed, whole, strict=True):
            assert row["validation"] == expected["validation"]
            assert row["last_loss"] == expected["last_loss"]

    def test_states_are_kept_on_the_way(self, tiny: None, tmp_path: Path) -> None:
        batches = _examples(1) * 5
        run, budget = Run("ours", 0, 1e-2), Budget(steps=5, warmup=1)
        quality.train([run], budget, batches, [("raw-4x", batches[0][0])], tmp_path, every=2)
        kept = quality.Pupil.of(run, budget.config(run.lr), tmp_path / f"{run.name}.safetensors")
        assert (kept.step, len(kept.losses)) == (4, 4)

    def test_finished_runs_are_kept_and_each_network_has_its_own_rate(
        self, tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[list[Run]] = []

        def train(runs: list[Run], *_: object) -> list[dict[str, Any]]:
            calls.append(list(runs))
            better = {"ours": 1, REFERENCE: -1}
            return [_run(run.network, run.seed, run.lr, 30 + better[run.network] * run.lr) for run in runs]

        monkeypatch.setattr(quality, "train", train)
        monkeypatch.setattr(Study, "_examples", lambda self, seed: ([], []))
        budget = Budget(learning_rates=(0.1, 0.2), seeds=(0, 1))
        rows = Study(tmp_path, budget, report=lambda text: None).rows([REFERENCE, "ours"])
        assert {(r["network"], r["lr"]) for r in rows} == {(REFERENCE, 0.1), ("ours", 0.2)}
        assert len(rows) == 4
        # Every network and rate of the first seed side by side, then each network at its own.
        assert [len(runs) for runs in calls] == [4, 2]
        Study(tmp_path, budget, report=lambda text: None).rows([REFERENCE, "ours"])
        assert len(calls) == 2
        kept, runs = finished(tmp_path)
        assert kept is not None
        assert kept["seeds"] == [0, 1]
        assert len(runs) == 6
        assert page.chosen(runs)["ours"].keys() == {0, 1}

    def test_runs_of_another_budget_are_not_mixed(self, tmp_path: Path) -> None:
        Study(tmp_path, Budget(steps=3), report=lambda text: None)
        with pytest.raises(ValueError, match=r"found those of .*'steps': 3.*: choose another folder"):
            Study(tmp_path, Budget(steps=4), report=lambda text: None)


class TestSpeed:
    def test_both_layouts_and_the_fastest_setting_go_on(self) -> None:
        compiled = Setting(compiled=True)
        times = {Entry("a", PLAIN): 3.0, Entry("a", FAST): 2.0, Entry("a", compiled): 1.0, Entry("b", PLAIN): 1.0}
        both = [Entry("b", PLAIN), Entry("b", FAST)]
        assert speed.finalists(times, ["b"]) == both
        expected = [Entry("a", PLAIN), Entry("a", FAST), Entry("a", compiled)]
        assert speed.finalists(times, ["a", "b"]) == [*expected, *both]

    def test_ratio_is_within_rounds(self) -> None:
        # The second round was disturbed for both: a ratio of medians would not be 2.
        assert speed.ratio([2.0, 20.0, 4.0], [1.0, 10.0, 2.0]) == (2.0, 2.0, 2.0)

    def test_each_side_at_its_best_and_both_plain(self) -> None:
        times = {
            Entry(REFERENCE, PLAIN): [4.0, 4.0],
            Entry(REFERENCE, FAST): [6.0, 6.0],
            Entry("ours", PLAIN): [3.0, 3.0],
            Entry("ours", FAST): [1.0, 1.0],
        }
        reference, ours = speed.compare(times, batch=2)
        assert (reference["setting"], reference["ratio"][0]) == ("float32, contiguous", 1.0)
        assert (ours["setting"], ours["ratio"][0]) == ("float32, channels-last", 4.0)
        assert (ours["images_per_second"], ours["plain_ratio"][0]) == (2.0, 4 / 3)

    @pytest.mark.parametrize("setting", [PLAIN, FAST, Setting("bfloat16")])
    def test_a_training_step_trains(self, tiny: None, monkeypatch: pytest.MonkeyPatch, setting: Setting) -> None:
        network = build("ours")
        before = [p.detach().clone() for p in network.parameters()]
        monkeypatch.setattr(speed, "build", lambda name: network)
        step = speed.make_step(Entry("ours", setting), Task("training", 9, 12, 2), CPU)
        step()
        step()
        assert all(not torch.equal(p, old) for p, old in zip(network.parameters(), before, strict=True))

    def test_inference_changes_nothing(self, tiny: None, monkeypatch: pytest.MonkeyPatch) -> None:
        network = build("ours")
        before = [p.detach().clone() for p in network.parameters()]
        monkeypatch.setattr(speed, "build", lambda name: network)
        speed.make_step(Entry("ours", FAST), Task("inference", 9, 12), CPU)()
        assert all(torch.equal(p, old) for p, old in zip(network.parameters(), before, strict=True))
        assert not network.training

    def test_unknown_kind(self, tiny: None) -> None:
        with pytest.raises(ValueError, match="expected training or inference, got 'sleep'"):
            speed.make_step(Entry("ours", PLAIN), Task("sleep", 8, 8), CPU)

    def test_settings_that_are_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bfloat16 = Setting("bfloat16")
        costs = {PLAIN: 2.0, FAST: 1.0, Setting(channels_last=True, compiled=True): 0.5, bfloat16: 4.0}
        costs[Setting("bfloat16", channels_last=True)] = 5.0
        calls: dict[Setting, int] = dict.fromkeys(costs, 0)

        def make_step(entry: Entry, task: Task, device: torch.device) -> speed.Step:
            def step() -> Setting:
                calls[entry.setting] += 1
                return entry.setting

            return step

        monkeypatch.setattr(speed, "make_step", make_step)
        monkeypatch.setattr(speed, "_cost", lambda step, device: costs[step()])
        known, kept = {Entry("ours", PLAIN): 2.0}, list[int]()
        speed.screen(["ours"], Task("inference", 8, 8), CPU, known, lambda: kept.append(len(known)))
        # The faster layout is compiled; bfloat16 is slow and not compiled, and hopeless in one layout, where one
        # call is enough; what is known is not tried.
        assert known == {Entry("ours", setting): cost for setting, cost in costs.items()}
        assert list(calls.values()) == [0, 4, 4, 4, 1]
        assert kept == [2, 3, 4, 5]

    def test_measures_every_task_and_makes_its_page(
        self, tiny: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(speed, "TASKS", (Task("training", 8, 12), Task("inference", 9, 8)))
        monkeypatch.setattr(cli, "SCREENED", (Task("training", 8, 8), Task("inference", 8, 8)))
        monkeypatch.setattr(torch, "compile", lambda network: network)
        monkeypatch.setattr(cli, "fastmri_version", lambda: "0")
        threads = torch.get_num_threads()
        try:
            cli.settings(tmp_path, "ours", compiled=False)
            cli.page(tmp_path / "page.md", tmp_path)
            assert "compiled |" not in (page_text := (tmp_path / "page.md").read_text())
            assert "| training 8x8 | float32, contiguous | " in page_text
            cli.settings(tmp_path, "ours")
            before = (tmp_path / "settings-cpu.json").read_bytes()
            cli.speed(tmp_path, "ours", repetitions=2, threads=1)
        finally:
            cli.use_threads(threads)
        assert (tmp_path / "settings-cpu.json").read_bytes() == before
        document = json.loads((tmp_path / "speed-cpu.json").read_text())
        assert [task["task"] for task in document["tasks"]] == ["training 8x12", "inference 9x8"]
        assert [row["network"] for row in document["tasks"][0]["rows"]] == [REFERENCE, "ours"]
        cli.page(tmp_path / "page.md", tmp_path)
        text = (tmp_path / "page.md").read_text()
        assert "### training 8x12" in text
        assert "| training 8x8 | float32, contiguous | " in text
        assert "not all measured" in text
        assert "no GPU was at hand" in text

    def test_operations_of_a_convolution_counted_by_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(CONTENDERS, "one", Contender("", lambda: nn.Conv2d(IN_CHANS, 5, kernel_size=3, padding=1)))
        forward = 2 * 9 * IN_CHANS * 5 * (7 * 6) * 3
        assert speed.flops("one", Task("inference", 7, 6, 3)) == forward
        # Backward: the gradient of the weights; the input needs none.
        assert speed.flops("one", Task("training", 7, 6, 3)) == 2 * forward


class TestPage:
    @staticmethod
    def _speed(ratio: float) -> dict[str, Any]:
        row = {"network": "ours", "ratio": [ratio, ratio, ratio]}
        return {"tasks": [{"task": f"{kind} 8x8", "rows": [row]} for kind in ("training", "inference")]}

    @staticmethod
    def _runs(gains: list[float]) -> list[dict[str, Any]]:
        return [
            run
            for seed, gain in enumerate(gains)
            for run in (_run(REFERENCE, seed, 0.1, 30 + seed), _run("ours", seed, 0.1, 30 + seed + gain))
        ]

    @pytest.mark.parametrize(
        ("gains", "ratio", "verdict"),
        [
            ([0.3, -0.2, 0.0], 1.6, "yes"),
            ([0.1, -0.2, 0.0], 1.6, "no"),
            ([0.1, 0.1, 0.1], 1.4, "no"),
            ([0.1, 0.1], 1.6, "not all measured"),
        ],
    )
    def test_verdict(
        self, monkeypatch: pytest.MonkeyPatch, tiny: None, gains: list[float], ratio: float, verdict: str
    ) -> None:
        monkeypatch.setitem(CONTENDERS, "ours", _tiny(4))
        text = page.summary(self._runs(gains), self._speed(ratio))
        assert text.splitlines()[-1].endswith(f"| {verdict} |")

    def test_differences_pair_the_seeds_that_both_have(self, tiny: None) -> None:
        runs = [_run(REFERENCE, 0, 0.1, 30.0), _run(REFERENCE, 2, 0.1, 31.0), _run("ours", 2, 0.1, 31.5)]
        assert page.differences(page.chosen(runs), "ours") == [0.5]

    def test_rate_is_that_of_the_first_seed(self, tiny: None) -> None:
        runs = [_run("ours", 0, 0.1, 30.0), _run("ours", 0, 0.2, 31.0), _run("ours", 1, 0.2, 29.0)]
        runs.append(_run("ours", 1, 0.1, 35.0))
        assert [run["lr"] for run in page.chosen(runs)["ours"].values()] == [0.2, 0.2]

    def test_quality_part(self, tiny: None) -> None:
        budget = json.loads(json.dumps(quality.asdict(Budget(steps=7))))
        text = page.page(budget, self._runs([0.25, -0.25, 0.0]), None)
        assert "7 steps of one example" in text
        assert "| ours | 0.1 | 0, 1, 2 | 31.00 (30.25, 30.75, 32.00) | +0.00 (+0.25, -0.25, +0.00) | 0.9000 |" in text
        assert "| 0.500 (0.500, 0.500, 0.500) |" in text
        assert "| PSNR, dB | fastmri | ours |" in text
        assert "| raw-4x | 32.00 | 32.00 |" in text
        assert "## Speed\n\nNot measured in turns yet.\n" in text
