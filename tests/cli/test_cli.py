"""The command line as a user meets it: output, and one clear line with exit code 2 for bad input."""

import sys
from pathlib import Path

import pytest

import pretrainrl
from pretrainrl.cli import main


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["pretrainrl", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_encoders_lists_every_card(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert call(monkeypatch, "encoders") == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["name", "aliases"]
    assert [row.split()[0] for row in rows] == pretrainrl.list_encoders()
    assert ["siammae.impala_atari8", "siammae"] in [row.split()[:2] for row in rows]


def test_encoders_takes_a_pattern(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert call(monkeypatch, "encoders", "random.n*") == 0
    output = capsys.readouterr().out
    assert "random.nature" in output and "random.impala" not in output


def test_info_shows_the_card(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert call(monkeypatch, "info", "random") == 0
    assert 'name = "random.impala"' in capsys.readouterr().out


def test_verify_reports_each_encoder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert call(monkeypatch, "verify", "random.n*") == 0
    assert "ok      random.nature" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "siamae"], "unknown encoder 'siamae'; did you mean 'siammae'"),
        (["info", "./nowhere/card.toml"], "no card at nowhere/card.toml"),
        (["encoders", "siamae*"], "unknown encoder 'siamae*'"),
        (["verify", "randm*"], "unknown encoder 'randm*'"),
        (["collect", "breackout"], "unknown game 'breackout'; did you mean 'breakout'"),
        (["collect", "pong", "--kind", "a b"], "is not a dataset id"),
        (["pretrain", "siamae", "--dataset", "pretrainrl/atari/pong-random-v0"], "unknown objective 'siamae'"),
        (["pretrain", "idm", "--dataset", "pretrainrl/atari/pong-nothere-v0"], "no dataset"),
        (["pretrain", "idm", "--dataset", "x", "--preset", "big"], "unknown preset of idm 'big'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.strip().startswith("error: ") and message in error and "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_wrong_options_are_exit_code_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert call(monkeypatch, "pretrain", "idm", "--dataset", "x", "--steps", "none") == 2
    assert "--steps" in capsys.readouterr().err


def test_unwritable_folders(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "file" / "below"))
    assert call(monkeypatch, "collect", "pong", "--steps", "10") == 2
    assert "cannot write" in capsys.readouterr().err


def test_collect_then_pretrain_then_info(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    assert call(monkeypatch, "collect", "pong", "breakout", "--steps", "120", "--n-envs", "2") == 0
    datasets = ["--dataset", "pretrainrl/atari/pong-random-v0", "--dataset", "pretrainrl/atari/breakout-random-v0"]
    run = ["pretrain", "idm", *datasets, "--backbone", "nature", "--steps", "2", "--batch-size", "8"]
    assert call(monkeypatch, *run, "--out", str(tmp_path / "run"), "--name", "idm.mine") == 0
    assert "encoder in" in capsys.readouterr().out
    assert call(monkeypatch, "info", str(tmp_path / "run")) == 0
    assert 'name = "idm.mine"' in capsys.readouterr().out
    assert call(monkeypatch, *run, "--out", str(tmp_path / "run"), "--name", "idm.mine") == 2
    assert "is not empty" in capsys.readouterr().err
