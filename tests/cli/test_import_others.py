"""`pretrainrl import atari-pb`, `rl-unplugged` and `minari`: what they have in common, and what is left when they stop."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import minari
import numpy as np
import pytest
from atari_pb_data import write_files
from dqn_shards import log_of, numbered
from episode_records import write_episodes
from native_sets import make_native
from quota import quota

from pretrainrl.cli import main
from pretrainrl.data.sources.atari_pb import GAMES
from pretrainrl.integrations.minari import local_ids, open_dataset
from pretrainrl.integrations.minari.store import EpisodeWriter

LOG = log_of(numbered([10, 6, 9]))


class Case(NamedTuple):
    """One command, as it is called, and what it makes of its two games."""

    arguments: list[str]
    ids: list[str]
    transitions: int
    damage: Callable[[], object]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    return tmp_path / "datasets"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Native sets of Pong and Breakout, made once, for it takes seconds."""
    root = tmp_path_factory.mktemp("native")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        for game in ("Pong", "Breakout"):
            make_native(f"atari/{game.lower()}/expert-v0", f"ALE/{game}-v5", episodes=3)
    return root


@pytest.fixture(params=["atari-pb", "rl-unplugged", "minari"])
def case(request: pytest.FixtureRequest, tmp_path: Path, sets: Path, root: Path) -> Case:
    if request.param == "minari":
        shutil.copytree(sets, root)
        return native(root)
    return {"atari-pb": atari_pb, "rl-unplugged": rl_unplugged}[request.param](tmp_path / "source")


def atari_pb(folder: Path) -> Case:
    few = {**LOG, "action": LOG["action"] % 4}
    paths = write_files(folder, {GAMES.index("pong"): [[LOG, LOG]], GAMES.index("breakout"): [[few, few]]})
    options = ["--runs", "1", "--checkpoints", "1,2", "--steps", "20"]
    ids = [f"pretrainrl/atari/{game}-dqn-replay-v0" for game in ("pong", "breakout")]
    damaged = {GAMES.index("pong"): [[LOG, LOG]], GAMES.index("breakout"): [[few, LOG]]}  # an action there is not
    return Case(
        ["atari-pb", str(folder), "pong", "breakout", *options], ids, 40, lambda: write_files(folder, damaged) and paths
    )


def rl_unplugged(folder: Path) -> Case:
    episodes = numbered([10, 6, 9])
    paths = {}
    for game in ("Pong", "Breakout"):
        for episode in episodes:
            episode.actions[:] %= 4
        paths[game] = write_episodes(folder, episodes, game=game)
    content = paths["Breakout"].read_bytes()
    ids = [f"pretrainrl/atari/{game}-rlu-v0" for game in ("pong", "breakout")]
    options = ["--runs", "1", "--checkpoints", "1", "--steps", "20"]
    return Case(
        ["rl-unplugged", str(folder), "pong", "breakout", *options],
        ids,
        20,
        lambda: paths["Breakout"].write_bytes(content[: len(content) // 2]),
    )


def native(root: Path) -> Case:
    path = root / "atari/breakout/expert-v0/data/main_data.hdf5"
    content = path.read_bytes()
    picture = content.rindex(b"\xff\xd8\xff")
    ids = [f"pretrainrl/atari/{game}-farama-expert-v0" for game in ("pong", "breakout")]
    return Case(
        ["minari", "atari/pong/expert-v0", "atari/breakout/expert-v0"],
        ids,
        36,
        lambda: path.write_bytes(content[:picture] + bytes(600) + content[picture + 600 :]),
    )


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pretrainrl", "import", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def made() -> list[str]:
    """Ids of the datasets that an import made; asserts that nothing else lies about."""
    root = Path(os.environ["MINARI_DATASETS_PATH"])
    names = {path.name for path in root.iterdir()} if root.exists() else set()
    assert names <= {"atari", "pretrainrl"}, names
    ids = [name for name in local_ids() if name.startswith("pretrainrl/")]
    assert ids == [name for name in sorted(minari.list_local_datasets()) if name.startswith("pretrainrl/")]
    return ids


def test_one_dataset_each(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: Path) -> None:
    assert call(monkeypatch, *case.arguments) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{case.ids[0]}  {case.transitions} transitions of ")
    assert second.startswith(case.ids[1]) and last == f"in {root}"
    assert made() == sorted(case.ids)
    for name in case.ids:
        dataset = minari.load_dataset(name)
        assert dataset.total_steps == case.transitions and dataset[0].observations.shape[1:] == (84, 84)
        assert open_dataset(name).metadata["source"] and open_dataset(name).metadata["selection"]


def test_resume(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, *case.arguments) == 0
    assert call(monkeypatch, *case.arguments) == 2
    assert f"{case.ids[0]} exists" in capsys.readouterr().err
    assert call(monkeypatch, *case.arguments, "--resume") == 0
    assert capsys.readouterr().out.count("is there already") == 2
    assert call(monkeypatch, *case.arguments, "--kind", "other") == 0
    assert len(made()) == 4


def test_damaged_source_leaves_nothing_of_its_game(
    case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case.damage()
    assert call(monkeypatch, *case.arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and ("source/" in error or "atari/breakout/expert-v0 cannot be read" in error)
    assert made() == [case.ids[0]]


def test_interrupted(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write = EpisodeWriter.write
    written = 0

    def interrupting(self: EpisodeWriter, *arguments: object, **options: object) -> None:
        nonlocal written
        written += 1
        write(self, *arguments, **options)  # type: ignore[arg-type]
        if written == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeWriter, "write", interrupting)
        assert call(monkeypatch, *case.arguments) == 130
    assert "interrupted; 0 of 2 datasets are complete, of the one under way nothing is kept" in capsys.readouterr().err
    assert made() == []
    assert call(monkeypatch, *case.arguments, "--resume") == 0
    assert made() == sorted(case.ids)


def test_crash_leaves_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def crashing(self: EpisodeWriter, *arguments: object, **options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(EpisodeWriter, "write", crashing)
    with pytest.raises(ZeroDivisionError):
        call(monkeypatch, *case.arguments)
    assert made() == []


def test_full_disk(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with quota(3_000):
        assert call(monkeypatch, *case.arguments) == 2
    assert f"error: cannot write {case.ids[0]} under" in capsys.readouterr().err
    assert made() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["atari-pb", "{empty}", "pong"], "missing in {empty}: observation_10000.hdf5, action_10000"),
        (["atari-pb", "{empty}", "pnog"], "unknown game 'pnog'; did you mean 'pong'"),
        (["atari-pb", "{empty}/nowhere", "pong"], "there is no folder {empty}/nowhere"),
        (["atari-pb", "{empty}", "pong", "--runs", "0"], "numbered from 1"),
        (
            ["rl-unplugged", "{empty}", "pong", "--runs", "1", "--checkpoints", "0,1"],
            "Pong/run_1-00000-of-00050, Pong/run_1-00001",
        ),
        (["rl-unplugged", "{empty}", "pong", "--checkpoints", "x"], "--checkpoints takes numbers and ranges"),
        (["minari", "expert"], "'expert' is not a dataset id; ids look like atari/pong/expert-v0"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path,
    root: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    assert call(monkeypatch, *(word.format(empty=tmp_path / "empty") for word in arguments)) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message.format(empty=tmp_path / "empty") in error and len(error.splitlines()) == 1
    assert not root.exists()


@pytest.mark.filterwarnings("ignore:Misconfigured dataset")
def test_two_sources_of_one_id(
    sets: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in (0, 1):
        shutil.copytree(sets / "atari/pong/expert-v0", root / f"atari/pong/expert-v{version}")
    assert call(monkeypatch, "minari", "atari/pong/expert-v0", "atari/pong/expert-v1") == 2
    assert "several would be pretrainrl/atari/pong-farama-expert-v0" in capsys.readouterr().err
    assert made() == []


def test_rewards_are_not_clipped_where_the_source_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = numbered([10])
    episodes[0].rewards[2] = 200
    write_episodes(tmp_path, episodes)
    assert call(monkeypatch, "rl-unplugged", str(tmp_path), "pong", "--runs", "1", "--checkpoints", "1", "--verify") == 0
    dataset = open_dataset("pretrainrl/atari/pong-rlu-v0")
    [episode] = dataset
    assert np.array_equal(episode.rewards, episodes[0].rewards)
    assert dataset.metadata["reward_clipping"] == dataset.metadata["preprocessing"]["reward_clipping"] == "none"
    assert dataset.metadata["checksums_verified"] is True


def test_atari_pb_says_what_it_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, *atari_pb(tmp_path / "source").arguments) == 0
    facts = open_dataset("pretrainrl/atari/pong-dqn-replay-v0").metadata
    assert "counted from 1" in facts["source"]["run_and_checkpoint"]
    assert facts["shards"] == [{"run": 1, "checkpoint": 1}, {"run": 1, "checkpoint": 2}]
    assert facts["dropped_padding_rows"] == 18
