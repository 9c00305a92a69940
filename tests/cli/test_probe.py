"""`pretrainrl probe` from a collected dataset to a page, and its numbers into a card."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from native_sets import make_native

import pretrainrl
from pretrainrl.cards import EncoderCard
from pretrainrl.cli import main
from pretrainrl.errors import InputError
from pretrainrl.integrations.minari import collect_dataset, dataset_id
from pretrainrl.paths import registry_folder
from pretrainrl.probing.report import record
from pretrainrl.runs.checkpoints import checked_json
from pretrainrl.runs.folder import exclusive_folder

WITH_RAM, WITHOUT = dataset_id("breakout", "ram"), dataset_id("pong", "plain")


@pytest.fixture(scope="module", autouse=True)
def _datasets() -> None:
    collect_dataset("breakout", steps=240, n_envs=2, ram=True, kind="ram")
    collect_dataset("pong", steps=160, n_envs=2, kind="plain")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["pretrainrl", "probe", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_numbers_page_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "probes"
    arguments = ["siammae", "--dataset", WITH_RAM, "--dataset", WITHOUT, "--observations", 100, "--out", out]
    assert call(monkeypatch, *arguments) == 0
    output = capsys.readouterr().out
    for text in ("siammae.impala_atari8", "random.impala", "RAM, balanced accuracy", "note: pong: no RAM probe"):
        assert text in output
    first = (out / "probe.json").read_text()
    page = (out / "index.html").read_text()
    assert "Breakout" in page and "http" not in page.replace("http-equiv", "") and "an encoder alone has no painter" in page
    assert call(monkeypatch, *arguments) == 0
    assert (out / "probe.json").read_text() == first
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "probe.json"]

    registry = tmp_path / "registry"
    shutil.copytree(registry_folder() / "encoders", registry / "encoders")
    card = record(out, registry)
    measured = {item["encoder"]: item["metrics"] for item in json.loads(first)["probes"]}
    assert [item["dtype"] for item in json.loads(first)["probes"]] == ["float32", "float32"]
    assert card.metrics["rankme"] == pytest.approx(measured[card.name]["rankme"], rel=1e-3)
    assert card.metrics["random_rankme"] == pytest.approx(measured["random.impala"]["rankme"], rel=1e-3)
    assert card.metrics["loss"] == pretrainrl.encoder_card("siammae").metrics["loss"]
    assert EncoderCard.read(registry / "encoders" / f"{card.name}.toml") == card


@pytest.mark.parametrize("name", ["random", "random.impala"])
def test_random_beside_itself_is_one_column(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert call(monkeypatch, name, "--dataset", WITHOUT, "--observations", 60, "--out", tmp_path / "out") == 0
    assert capsys.readouterr().out.count("random.impala") == 1
    assert len(json.loads((tmp_path / "out" / "probe.json").read_text())["probes"]) == 1


def test_a_run_folders_reconstructions_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = pretrainrl.pretrain("siammae", [WITHOUT], steps=1, batch_size=2, out=tmp_path / "run", progress=False)
    arguments = ["--dataset", WITH_RAM, "--dataset", WITHOUT, "--observations", 60, "--baseline", "none"]
    assert call(monkeypatch, run.folder, *arguments, "--out", tmp_path / "out") == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count('alt="reconstruction"') == 3 * 3  # three moments of the game it knows
    assert "random.impala" not in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["siamae", "--dataset", WITH_RAM], "unknown encoder 'siamae'; did you mean 'siammae'"),
        (["random", "--dataset", "pretrainrl/atari/breakout-rom-v0"], "did you mean pretrainrl/atari/breakout-ram-v0"),
        (["random", "--dataset", WITH_RAM, "--baseline", "rndom"], "unknown encoder 'rndom'"),
        (["mae.resnet50_atari50", "--dataset", WITH_RAM], "do not come with this package"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert call(monkeypatch, *arguments, "--out", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert message in captured.err and not (tmp_path / "out").exists()


def test_frames_of_another_shape_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    make_native("atari/pong/coloured-v0", jpeg=False)
    assert call(monkeypatch, "random", "--dataset", "atari/pong/coloured-v0", "--out", tmp_path / "out") == 2
    assert "(210, 160, 3)" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_record_refuses_what_it_cannot_use(tmp_path: Path):
    with pytest.raises(InputError, match="no measurements at"):
        record(tmp_path, registry_folder())
    (tmp_path / "probe.json").write_text("[]")
    with pytest.raises(InputError, match="does not hold measurements"):
        record(tmp_path, registry_folder())
    (tmp_path / "probe.json").write_text(checked_json({"probes": [{"encoder": "mine.impala", "metrics": {"rankme": 2}}]}))
    with pytest.raises(InputError, match="has no card"):
        record(tmp_path, registry_folder())


def test_one_process_writes_into_a_folder(tmp_path: Path):
    with exclusive_folder(tmp_path), pytest.raises(InputError, match=rf"{tmp_path} is in use by process \d+ on"):
        pretrainrl.probe("random.nature", WITHOUT, baseline="none", observations=20, out=tmp_path, progress=False)
