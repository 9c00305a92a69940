"""`pretrainrl finetune`: each algorithm, stopped by Ctrl-C, killed while it writes a checkpoint, with bad input."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pretrainrl import cli
from pretrainrl.finetuning.segments import FinetuneSegments
from pretrainrl.integrations.minari import collect_dataset

OPTIONS = "--game Pong --encoder random.nature --features pooled --n-envs 2 --eval-episodes 2 --max-episode-steps 15"
COMMANDS = {
    "rainbow": "rainbow --steps 60 --eval-freq 30",
    "qrdqn": "qrdqn --steps 60 --eval-freq 30",
    "ppo": "ppo --steps 256 --eval-freq 1000",
    "bc": "bc --epochs 2 --eval-freq 1 --dataset pretrainrl/atari/pong-random-v0",
}

# Kills itself when it has written a part of its second checkpoint.
SCRIPT = """
import os, signal, sys
from pretrainrl import cli
from pretrainrl.finetuning import segments

save, times = segments.save_state, []

def saving(agent, folder):
    save(agent, folder)
    times.append(folder)
    if len(times) == 2:
        (folder / "replay.npz").unlink()
        os.kill(os.getpid(), signal.SIGKILL)

segments.save_state = saving
cli.main()
"""


@pytest.fixture(autouse=True)
def _toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, arguments: str) -> int:
    """Exit code."""
    monkeypatch.setattr("sys.argv", ["pretrainrl", "finetune", *arguments.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", COMMANDS)
def test_each_algorithm(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if algorithm == "bc":
        collect_dataset("pong", steps=64, n_envs=2)
    assert run(monkeypatch, f"{COMMANDS[algorithm]} {OPTIONS}") == 0
    folder = Path("runs/finetune/random.nature-pooled") / algorithm / "ALE-Pong-v5_1"
    with np.load(folder / "evaluations.npz") as saved:
        last, steps = saved["results"][-1], saved["timesteps"][-1]
    printed = capsys.readouterr().out
    assert f"score {last.mean():.1f} ± {last.std():.1f} in 2 games after {steps} steps" in printed
    assert f"agent, scores and settings in {folder.resolve()}" in printed
    assert (folder / "ALE-Pong-v5.zip").is_file()


@pytest.mark.slow
def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    step = FinetuneSegments._on_step

    def stopping(self: FinetuneSegments) -> bool:
        if self.num_timesteps == 50:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    command = f"qrdqn --steps 60 --eval-freq 30 --checkpoint-every 20 --out out {OPTIONS}"
    with monkeypatch.context() as patch:
        patch.setattr(FinetuneSegments, "_on_step", stopping)
        assert run(monkeypatch, command) == 130
    said = capsys.readouterr().err
    assert "what was learned up to 40 of 60 is kept; go on with the same command and --resume" in said
    assert not Path("out/qrdqn/ALE-Pong-v5_1/ALE-Pong-v5.zip").exists()
    assert run(monkeypatch, f"{command} --resume") == 0
    assert run(monkeypatch, command) == 2
    assert "is not empty; go on with that run by --resume, or choose another folder with --out" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_in_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was half written is not used, and does not stay."""
    command = f"rainbow --steps 60 --eval-freq 30 --checkpoint-every 20 {OPTIONS}"
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, "finetune", *command.split(), "--out", "killed"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    checkpoints = tmp_path / "killed" / "rainbow" / "ALE-Pong-v5_1" / "checkpoints"
    names = sorted(path.name for path in checkpoints.iterdir())
    assert len(names) == 2 and names[1] == "step_0000000020"
    assert run(monkeypatch, f"{command} --out killed --resume") == 0
    assert run(monkeypatch, f"{command} --out whole") == 0
    found, expected = (np.load(f"{out}/rainbow/ALE-Pong-v5_1/evaluations.npz") for out in ("killed", "whole"))
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    assert [path.name for path in checkpoints.iterdir()] == ["step_0000000060"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (f"dqn {OPTIONS}", "unknown algorithm 'dqn'; did you mean 'qrdqn'"),
        ("rainbow --game pongo --encoder siammae", "unknown game 'pongo'; did you mean 'pong'"),
        ("rainbow --game pong --encoder siammea", "unknown encoder 'siammea'; did you mean 'siammae'"),
        (f"bc {OPTIONS}", "bc learns from a dataset"),
        (f"bc {OPTIONS} --dataset pretrainrl/atari/pong-random-v9", "pretrainrl/atari/pong-random-v9"),
        (f"rainbow {OPTIONS} --steps 0", "--steps"),
    ],
)
def test_bad_input(
    arguments: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, arguments) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
