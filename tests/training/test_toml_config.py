"""Any bytes for a configuration and any text after --set end in a configuration or in one clear error."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mri_recon.cli import build_app
from mri_recon.errors import ConfigError
from mri_recon_training.config import TrainConfig, load_config, parse_config
from mri_recon_training.study.config import StudyConfig, candidates, load_study, optimizer_config
from mri_recon_training.toml_config import config_file, read_json, read_tables, validated

TEXT = '[run]\nname = "é"\nsteps = 7\n'


@pytest.mark.parametrize("name", ["unet", "unrolled", "unet-0.1", "unrolled-0.1", "worlds"])
def test_shipped_configurations_go_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the name has a dot; a file of that name comes first."""
    monkeypatch.chdir(tmp_path)
    assert load_config(config_file(Path(name))).run.name
    (tmp_path / name).write_text(TEXT, encoding="utf-8")
    assert config_file(Path(name)) == Path(name)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(
        ConfigError, match="expected a TOML file or one of fine-tune, try, unet, unet-0.1, .*, got 'unett'"
    ):
        config_file(Path("unett"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_utf_8_is_read_with_and_without_a_mark(encoding: str, ends: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(TEXT.replace("\n", ends).encode(encoding))
    config = load_config(path)
    assert (config.run.name, config.run.steps) == ("é", 7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode("utf-16"), "expected UTF-8, got UTF-16: save it as UTF-8"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "expected UTF-8, got UTF-16"),
        (TEXT.encode("latin-1"), "expected UTF-8, got the byte 0xe9 in line 2: save it as UTF-8"),
        (b"\x00" * 10, "not TOML"),
        (b'[run]\nname = "a\x00b"\n', "not TOML"),
        (b"[" * 100_000, "not TOML"),
        (b"a = " + b"[" * 50_000, "not TOML (nested too deeply)"),
        (b"a = " + b"9" * 5000, "not TOML"),
        (b"#" * 1_000_001, "expected at most 1000000 bytes"),
        (b"run = 3\n", "run: Input should be"),
        (b"[run]\nstepz = 3\n", "unknown key run.stepz (did you mean 'steps'?): expected one of batch_size,"),
        (b"[run]\nsteps = " + b"9" * 30 + b"\n", "run.steps: expected a finite number below 2^63, got 9"),
        (b"[optimizer]\nlr = inf\n", "optimizer.lr: expected a finite number below 2^63, got inf"),
        (b"[optimizer]\nlr = nan\n", "optimizer.lr: expected a finite number below 2^63, got nan"),
        (b"[model]\narchitecture = 3\n", "model.architecture: expected one of unet, unrolled, cascade, got 3"),
        (b"[run]\nname = 2026-11-28\n", "run.name: Input should be a valid string, got datetime.date(2026, 11, 28)"),
    ],
)
def test_what_is_no_configuration_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert message in str(error.value)
    result = CliRunner().invoke(build_app(), ["train", str(path)])
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("mri-recon: error: ")
    assert "unexpected" not in line


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "absent.toml", "No such file or directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("/dev/zero"), "at most 1000000 bytes"),
        (tmp_path / "a\0b", "null byte"),
    ):
        with pytest.raises(ConfigError, match=reason):
            load_config(path)


def test_a_pipe_is_read() -> None:
    """As in `mri-recon train <(make-config)`."""
    read, write = os.pipe()
    os.write(write, TEXT.encode())
    os.close(write)
    assert load_config(Path(f"/dev/fd/{read}")).run.steps == 7
    os.close(read)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configurations")


VALUES = st.recursive(
    st.one_of(st.integers(), st.floats(), st.text(max_size=8), st.booleans(), st.dates(), st.just(10**400)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=5,
)
SECTIONS = [*TrainConfig.model_fields, *StudyConfig.model_fields, "other"]


def _keys() -> list[str]:
    names = [name for model in (TrainConfig, StudyConfig) for name in model.model_fields]
    inner = [
        "name",
        "steps",
        "lr",
        "root",
        "target",
        "batch_size",
        "seeds",
        "architecture",
        "chans",
        "adam",
        "normalization",
    ]
    return [f"{name}.{key}" for name in names for key in inner] + names


@given(st.binary(max_size=60))
@example(b"\xef\xbb\xbf")
@example(b"\xef\xbb\xbf\xef\xbb\xbf")
@settings(max_examples=100, deadline=None)
def test_any_bytes(folder: Path, content: bytes) -> None:
    path = folder / "bytes.toml"
    path.write_bytes(content)
    for read in (load_config, load_study, read_json):
        with suppress(ConfigError):
            read(path)


@given(st.dictionaries(st.sampled_from(SECTIONS), st.one_of(VALUES, st.dictionaries(st.text(max_size=8), VALUES))))
@settings(max_examples=150, deadline=None)
def test_any_tables(tables: dict[str, Any]) -> None:
    with suppress(ConfigError):
        parse_config(tables)
    with suppress(ConfigError):
        validated(StudyConfig, tables)


@given(st.sampled_from(_keys()), st.one_of(st.text(max_size=20), st.sampled_from(["inf", "nan", "1e999", "9" * 5000])))
@example("run.steps", "[" * 50_000)
@example("run.name", "1\nother = 2")
@example("study.candidates", '["adam", 3]')
@settings(max_examples=150, deadline=None)
def test_any_override(folder: Path, key: str, text: str) -> None:
    path = folder / "empty.toml"
    path.write_bytes(b"")
    for read in (load_config, load_study):
        with suppress(ConfigError):
            read(path, [f"{key}={text}"])


@pytest.mark.parametrize(
    "name",
    [
        "2026-11-28",
        "1e3",
        "true",
        "07:32:00",
        "0x10",
        "inf",
        "7",
        "[1]",
        "{a=1}",
        "None",
        "a b",
        "é",
        "1\nx = 2",
        "a#b",
    ],
)
def test_a_name_is_a_name_whatever_it_looks_like(name: str, folder: Path) -> None:
    path = folder / "empty.toml"
    path.write_bytes(b"")
    config = load_config(path, [f"run.name={name}", f"data.root={name}", f"run.precision={'float64'}"])
    assert config.run.name == name
    assert config.data.root == name
    assert config.run.precision == "float64"
    assert load_study(path, [f"study.optimizer={'adam'}"]).study.optimizer == "adam"


def test_an_override_in_quotes_is_what_stands_in_them(folder: Path) -> None:
    path = folder / "empty.toml"
    path.write_bytes(b"")
    config = load_config(path, ['run.name="1e3"', "run.folder='x y'", "run.steps=1_000", "run.tensorboard=false"])
    assert (config.run.name, config.run.folder, config.run.steps) == ("1e3", "x y", 1000)
    assert config.run.tensorboard is False
    assert load_config(path, ["model.architecture=unrolled", "model.num_cascades=2"]).model.architecture == "unrolled"
    assert load_study(path, ['study.candidates=["adam"]']).study.candidates == ("adam",)
    assert read_tables(path, ["a.b=2026-11-28"])["a"]["b"].year == 2026  # where nothing is known of the key


def test_keys_of_a_studied_optimizer_are_checked(folder: Path) -> None:
    path = folder / "study.toml"
    for content in ('[optimizers.adam]\nlr = "fast"\n', "[optimizers.adam]\nmomentum = []\n"):
        path.write_text(content)
        config = load_study(path)
        (candidate,) = (one for one in candidates("optimizers", config) if one.name == "adam")
        with pytest.raises(ConfigError):
            optimizer_config(candidate, config, factor=1.0, steps=10)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"null", b"[" * 100_000, b'{"run": 3}'])
def test_a_damaged_run_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    result = CliRunner().invoke(build_app(), ["train", "--resume", str(tmp_path)])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "unexpected" not in line


@pytest.mark.parametrize("name", ["", ".", "..", "/", "/tmp/x", "../x", "a/b", ".hidden", "n" * 201, "é" * 101])
def test_a_run_stays_in_its_folder(name: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^run\.name: expected the name of a file, .*no / in it"):
        parse_config({"run": {"name": name}})


@pytest.mark.parametrize("name", ["config", "state", "metrics", "tensorboard", "State", "CONFIG"])
def test_weights_are_no_other_file_of_their_run(name: str) -> None:
    """The weights `state` were replaced by the state of the run, and the card of `config` its configuration."""
    with pytest.raises(ConfigError, match=f"run.name: a run has another file of the name {name}: choose another name"):
        parse_config({"run": {"name": name}})


@given(st.sampled_from(["run.name", "run.folder", "run.device", "run.weights", "data.root", "model.architecture"]))
def test_no_text_has_the_character_nul(key: str) -> None:
    """No path and no name can: the system refuses it, after the work where only then a file is opened."""
    section, name = key.split(".")
    with pytest.raises(ConfigError, match=rf"{name}: expected (text without the character NUL|one of)"):
        parse_config({section: {name: "a\0b"}})
    with pytest.raises(ConfigError, match=r"study\.optimizer: expected text without the character NUL"):
        validated(StudyConfig, {"study": {"optimizer": "a\0b"}})
