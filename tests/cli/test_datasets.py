"""`pretrainrl datasets`: what it lists, shows, sends and fetches, and what it refuses."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from dqn_shards import log_of, numbered, write_shard
from fake_hub import FakeHub

from pretrainrl import cli
from pretrainrl.dataset_cards import DATASETS, RECORDINGS
from pretrainrl.integrations.minari import local_ids, write_dataset

NAME, MINE = "pretrainrl/atari/pong-random-v0", "pretrainrl/atari/pong-mine-v0"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.delenv("MINARI_REMOTE", raising=False)
    monkeypatch.setattr(RECORDINGS, "_items", {})  # what is recorded is listed too; see the last test
    return tmp_path / "datasets"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pretrainrl", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return (code, *capsys.readouterr())

    return run


def test_the_whole_way_from_shards(call, tmp_path: Path) -> None:
    write_shard(tmp_path / "dqn", log_of(numbered([10, 6, 9])), run=1, checkpoint=1)
    code, _, err = call("import", "dqn-replay", str(tmp_path / "dqn"), "pong", "--runs", "1", "--checkpoints", "1")
    assert code == 0, err
    code, out, _ = call("datasets")
    assert code == 0
    header, line = out.splitlines()
    assert header.split("  ")[0] == "id"
    assert re.fullmatch(r"pretrainrl/atari/pong-dqn-replay-v0 +\d+\.\d kB +25 +3 +-?\d+\.\d\d +dqn-replay", line.strip())
    code, out, _ = call("datasets", "card", "pretrainrl/atari/pong-dqn-replay-v0")
    assert code == 0
    assert "An Optimistic Perspective on Offline Reinforcement Learning" in out
    assert "| runs | 1 |" in out
    assert "| checkpoints | 1 |" in out
    assert "repeated" in out
    script = "import minari; ds = minari.load_dataset('pretrainrl/atari/pong-dqn-replay-v0'); print(ds.total_steps)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "25\n", run.stderr


def test_nothing_there(call, root: Path) -> None:
    code, out, _ = call("datasets")
    assert (code, out) == (0, f"there are no datasets in {root}\n")
    assert not root.exists()


def test_what_is_damaged_is_named_and_not_listed(call, root: Path) -> None:
    write_dataset(NAME, numbered([5]))
    write_dataset(MINE, numbered([6, 7]))
    path = root / NAME / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:2000])
    (root / "pretrainrl/atari/pong-empty-v0/data").mkdir(parents=True)
    (root / ".write-x/new/data").mkdir(parents=True)
    code, out, _ = call("datasets")
    assert code == 0
    listed, problems = out.split("not usable", 1)
    assert [line.split()[0] for line in listed.splitlines()] == ["id", MINE]
    assert f"dataset {NAME} cannot be read" in problems
    assert "dataset pretrainrl/atari/pong-empty-v0 cannot be read" in problems
    assert ".write-" not in out
    code, _, err = call("datasets", "card", NAME)
    assert code == 2
    assert "cannot be read" in err


def test_card_of_a_kind_without_one(call) -> None:
    write_dataset(MINE, numbered([6, 7]), algorithm="nobody", metadata={"odd": "a|b"})
    code, out, _ = call("datasets", "card", MINE)
    assert code == 0
    front = yaml.safe_load(out.split("---\n")[1])
    assert front["license"] == "unknown"
    assert front["viewer"] is False
    assert "| played by | nobody |" in out
    assert "| actions | 0 NOOP, 1 FIRE, 2 RIGHT" in out
    assert "| episodes end by | game_over 2 |" in out
    assert "| `odd` | a\\|b |" in out
    assert "| `rom_md5` |" in out


def test_to_the_hub_and_back(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHub.install(tmp_path, monkeypatch)
    write_dataset(NAME, numbered([5]))
    assert call("datasets", "upload", NAME)[0] == 2  # no remote
    assert call("datasets", "upload", NAME, "--remote", "hf://someone")[:2] == (0, f"uploaded {NAME}\n")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "there"))
    monkeypatch.setenv("MINARI_REMOTE", "hf://someone")
    assert call("datasets", "download", NAME)[:2] == (0, f"{NAME} is in {tmp_path / 'there'}\n")
    assert local_ids() == [NAME]
    code, _, err = call("datasets", "download", NAME)
    assert code == 2
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_listing_imports_neither_torch_nor_minari() -> None:
    write_dataset(NAME, numbered([5]))
    script = """
import sys
from pretrainrl.cli import main
sys.argv = ["pretrainrl", "datasets"]
try:
    main()
except SystemExit as end:
    assert not end.code
print("modules:", *sys.modules, sep="\\n")
"""
    narrow = {**os.environ, "COLUMNS": "60"}  # ids are whole all the same
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=narrow)
    listed, loaded = run.stdout.split("modules:")
    assert NAME in listed, run.stderr
    assert {"torch", "minari", "gymnasium", "stable_baselines3"} & set(loaded.split()) == set()


@pytest.mark.parametrize("name", DATASETS.names())
def test_the_commands_on_cards_are_real(name: str) -> None:
    card = DATASETS.get(name)
    assert card.name == name
    words = shlex.split(card.command)[1:]
    command: Any = typer.main.get_command(cli.app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), f"no such command: {card.command}"
    command.make_context(name, ["pong" if word == "GAME" else word for word in words])


def test_recordings_are_listed_and_described(call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RECORDINGS, "_items", None)
    code, out, _ = call("datasets")
    assert code == 0
    listed = {line.split()[0]: line for line in out.splitlines()[1:]}
    assert sorted(listed) == [f"pretrainrl/atari/{name}" for name in RECORDINGS.names()]
    name, card = "pretrainrl/atari/pong-expert-v0", RECORDINGS.get("pong-expert-v0")
    assert card.returns is not None
    for fact in ("20,000", f"{card.returns.mean:.2f}", "a recording, built when it is needed"):
        assert fact in listed[name]
    assert call("datasets", "card", name)[1] == card.to_toml()
    write_dataset(name, numbered([5]))
    assert "a recording, built when it is needed" not in next(
        line for line in call("datasets")[1].splitlines() if line.startswith(name)
    )
