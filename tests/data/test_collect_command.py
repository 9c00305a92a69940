"""`pretrainrl collect`: what it prints, refuses, keeps and takes up again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import minari
import pytest

from pretrainrl.cli.collect import collect
from pretrainrl.data.episode import EpisodeRecorder
from pretrainrl.errors import DatasetError, InputError, PretrainRLError, UnknownNameError

PONG, BREAKOUT = "pretrainrl/atari/pong-random-v0", "pretrainrl/atari/breakout-random-v0"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


@pytest.fixture
def interrupt_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Games in whose first episode this process is sent a SIGINT."""
    games: list[str] = []
    add = EpisodeRecorder.add

    def adding(self: EpisodeRecorder, *transition: object) -> None:
        if self.game in games and self.env == 0 and self.steps == 5:
            os.kill(os.getpid(), signal.SIGINT)
        add(self, *transition)  # type: ignore[arg-type]

    monkeypatch.setattr(EpisodeRecorder, "add", adding)
    yield games


def test_says_what_it_made(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collect(["pong", "Breakout", "ALE/Pong-v5"], steps=40, n_envs=2, ram=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        [PONG, "40", "transitions,"],
        [BREAKOUT, "40", "transitions,"],
        ["in", str(root)],
    ]
    dataset = minari.load_dataset(PONG)
    assert dataset.total_steps == 40
    assert dataset[0].infos["ram"].shape[1] == 128


def test_out_is_the_root(tmp_path: Path, root: Path) -> None:
    collect(["pong"], steps=10, n_envs=1, kind="tiny", version=2, out=tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "pretrainrl/atari/pong-tiny-v2").is_dir()
    assert not root.exists()
    assert os.environ["MINARI_DATASETS_PATH"] == str(root)


def test_interrupted_and_resumed(root: Path, interrupt_in: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    interrupt_in.append("breakout")
    with pytest.raises(PretrainRLError, match=r"1 of 2 datasets are complete.*--resume"):
        collect(["pong", "breakout"], steps=40, n_envs=2)
    assert list(minari.list_local_datasets()) == [PONG]
    assert [path.name for path in root.iterdir()] == ["pretrainrl"]
    before = (root / PONG / "data" / "main_data.hdf5").stat().st_mtime_ns
    interrupt_in.clear()
    capsys.readouterr()
    collect(["pong", "breakout"], steps=40, n_envs=2, resume=True)
    assert f"{PONG}  is there already" in capsys.readouterr().out
    assert (root / PONG / "data" / "main_data.hdf5").stat().st_mtime_ns == before
    assert minari.load_dataset(BREAKOUT).total_steps == 40


def test_existing_id_stops_before_any_work(root: Path) -> None:
    collect(["pong"], steps=10, n_envs=1)
    with pytest.raises(DatasetError, match=f"{PONG} exists"):
        collect(["breakout", "pong"], steps=10, n_envs=1)
    assert list(minari.list_local_datasets()) == [PONG]


def test_resume_does_not_pass_off_other_data() -> None:
    collect(["pong"], steps=10, n_envs=1)
    with pytest.raises(DatasetError, match=r"steps was 10 and is now 20.*--version"):
        collect(["breakout", "pong"], steps=20, n_envs=1, resume=True)
    assert list(minari.list_local_datasets()) == [PONG]


def test_bad_input_makes_nothing(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="breakout"):
        collect(["pong", "breakuot"], steps=10)
    with pytest.raises(InputError, match="sticky_actions"):
        collect(["pong"], steps=10, sticky_actions=2.0)
    with pytest.raises(InputError, match="not a dataset id"):
        collect(["pong"], steps=10, kind="a b")
    assert not root.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["collect", "breakuot"], "error: unknown game 'breakuot'; did you mean 'breakout'"),
        (["collect", "pong", "--steps", "0"], "--steps"),
    ],
)
def test_exit_code_of_bad_input(arguments: list[str], message: str) -> None:
    run = subprocess.run([sys.executable, "-c", "from pretrainrl.cli import main; main()", *arguments],
                         capture_output=True, text=True)  # fmt: skip
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr
