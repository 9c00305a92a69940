"""`pretrainrl collect --agent`: the box's command at toy size, killed and taken up again, several games at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pretrainrl.cli.collect import collect
from pretrainrl.errors import InputError, PretrainRLError, UnknownNameError
from pretrainrl.integrations.minari import open_dataset

# Short segments; with KILL in the environment, the process kills itself after so many transitions.
SCRIPT = """
import os, signal, sys
from pretrainrl.cli import main
from pretrainrl.data.episode import EpisodeRecorder
from pretrainrl.integrations.sb3.recording import agent_log

preset = agent_log.learner_preset
agent_log.learner_preset = lambda *args: preset(*args).with_settings(batch_size=4, buffer_size=200)

agent_log.SEGMENT_STEPS = 128
add, left = EpisodeRecorder.add, [int(os.environ.get("KILL", 10**9))]

def adding(self, *transition):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, *transition)

EpisodeRecorder.add = adding
for arguments in " ".join(sys.argv[1:]).split(" then "):
    sys.argv[1:] = arguments.split()
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""
COMMAND = "collect breakout --agent qrdqn --steps 380 --n-envs 2 --keep-every 2"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    return tmp_path / "datasets"


def run(arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, *arguments.split()]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


def test_killed_and_resumed(root: Path, tmp_path: Path) -> None:
    """A collection that was killed in its second segment ends as one that was not."""
    killed = run(COMMAND, KILL="300")
    assert killed.returncode == -signal.SIGKILL
    assert not root.exists()
    (scratch,) = (tmp_path / "home" / "collect").iterdir()
    assert [path.name for path in scratch.glob("segment-*")] == ["segment-000000"]
    refused = run(COMMAND)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    both = run(f"{COMMAND} --resume then {COMMAND} --version 1")
    assert both.returncode == 0, both.stderr
    resumed, whole = (open_dataset(f"pretrainrl/atari/breakout-qrdqn-v{version}") for version in (0, 1))
    assert "380 transitions" not in both.stdout  # half of the episodes
    assert len(resumed) == len(whole) > 1
    for a, b in zip(resumed, whole, strict=True):
        assert a.metadata == b.metadata
        assert np.array_equal(a.frames, b.frames)
        assert np.array_equal(a.actions, b.actions)
        assert np.array_equal(a.rewards, b.rewards)
    assert resumed.metadata["collection"] == whole.metadata["collection"]
    assert list((tmp_path / "home" / "collect").iterdir()) == []


def test_games_at_the_same_time(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect(["pong", "breakout", "freeway"], steps=60, n_envs=2, jobs=2)
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines[:3]) == [
        f"pretrainrl/atari/{game}-random-v0" for game in ("breakout", "freeway", "pong")
    ]
    together = list(open_dataset("pretrainrl/atari/pong-random-v0"))
    collect(["pong"], steps=60, n_envs=2, version=1)
    alone = list(open_dataset("pretrainrl/atari/pong-random-v1"))
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(together, alone, strict=True))


def test_random_play_keeps_one_of_n() -> None:
    collect(["breakout"], steps=900, n_envs=2)
    collect(["breakout"], steps=900, n_envs=2, keep_every=3, version=1)
    every, kept = (list(open_dataset(f"pretrainrl/atari/breakout-random-v{version}")) for version in (0, 1))
    assert len(every) > 3
    assert [episode.metadata for episode in kept] == [episode.metadata for episode in every[::3]]


def test_bad_input_makes_nothing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown agent 'qrdqm'; did you mean 'qrdqn'"):
        collect(["pong"], agent="qrdqm")
    with pytest.raises(InputError, match="cannot read the agent"):
        collect(["pong"], agent=str(tmp_path / "absent.zip"))
    with pytest.raises(InputError, match=r"keep_every must be in 1\.\.20"):
        collect(["pong"], steps=20, keep_every=21)
    with pytest.raises(InputError, match="ram is for random play"):
        collect(["pong"], agent="ppo", ram=True)
    assert not root.exists()
    assert not (tmp_path / "home").exists()
    zero = run("collect pong --jobs 0")
    assert zero.returncode == 2
    assert "--jobs" in zero.stderr


def test_error_in_one_game_says_what_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    from pretrainrl import commands

    def failing(own: object, agents: object, slug: str, report: object) -> str:
        if slug == "pong":
            raise InputError("the disk is full")
        return slug

    monkeypatch.setattr(commands, "_collect_one", failing)
    with pytest.raises(PretrainRLError, match=r"the disk is full \(1 of 3 datasets are complete; --resume goes on\)"):
        collect(["breakout", "pong", "freeway"])
