"""Episode records become the episodes that were played."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from dqn_shards import numbered
from episode_records import example, features_of, write_episodes, write_records

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.episode import Episode
from pretrainrl.data.sources import rl_unplugged
from pretrainrl.data.sources.rl_unplugged import RecordFile, check_records, find_records, read_record_episodes
from pretrainrl.errors import DatasetError, InputError, UnknownNameError

PLAYED = numbered([10, 6, 9])
PNG = cv2.imencode(".png", np.zeros((84, 84), np.uint8))[1].tobytes()
Features = dict[str, list[Any]]


def read(root: Path, steps: int, *, verify: bool = False) -> list[Episode]:
    return list(read_record_episodes(find_records(root, ["pong"], [1], [1])["pong"], steps, 6, verify=verify))


def facts(episodes: list[Episode], key: str) -> list[object]:
    return [episode.metadata[key] for episode in episodes]


def test_real_episodes_come_back(tmp_path: Path) -> None:
    """All of it: raw scores, and the observation that the episode ended on."""
    played = [episode for episode in collect_episodes("breakout", 900, n_envs=1, seed=2) if episode.terminations[-1]]
    write_episodes(tmp_path, played, game="Breakout")
    files = find_records(tmp_path, ["breakout"], [1], [1])["breakout"]
    episodes = list(read_record_episodes(files, 10_000, 4))
    assert len(episodes) == len(played) > 2
    for episode, original in zip(episodes, played, strict=True):
        for name in ("frames", "actions", "rewards", "terminations", "truncations"):
            assert np.array_equal(getattr(episode, name), getattr(original, name))
        assert (episode.game, episode.metadata["final_observation"]) == ("breakout", "true")


def test_ends(tmp_path: Path) -> None:
    write_episodes(tmp_path, PLAYED)
    episodes = read(tmp_path, 20)
    assert list(map(len, episodes)) == [10, 6, 4]
    assert facts(episodes, "ends_by") == ["game_over", "game_over", "cut"]
    assert facts(episodes, "final_observation") == ["true"] * 3
    assert facts(episodes, "starts_at_reset") == [True] * 3
    assert facts(episodes, "episode") == [0, 1, 2]
    assert facts(episodes, "run") == facts(episodes, "checkpoint") == [1] * 3
    assert facts(episodes, "return") == [episode.rewards.sum() for episode in episodes]
    for episode, original in zip(episodes, PLAYED, strict=True):
        assert np.array_equal(episode.frames, original.frames[: len(episode) + 1])
        assert episode.terminations[-1] == (episode.metadata["ends_by"] == "game_over") != episode.truncations[-1]
        assert not episode.terminations[:-1].any() and not episode.truncations[:-1].any()
    assert facts(read(tmp_path, 16), "ends_by") == ["game_over", "game_over"]


def test_time_outs_and_episodes_that_were_not_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [example(features_of(episode, over=over)) for episode, over in zip(PLAYED, (False, True, True), strict=True)]
    write_records(tmp_path / "Pong/run_1-00001-of-00050", records)
    monkeypatch.setattr(rl_unplugged, "TIME_OUT", 9)
    assert facts(read(tmp_path, 100), "ends_by") == ["time_out", "game_over", "time_out"]
    monkeypatch.setattr(rl_unplugged, "TIME_OUT", 11)
    episodes = read(tmp_path, 100)
    assert facts(episodes, "ends_by") == ["cut", "game_over", "game_over"]
    assert episodes[0].truncations[-1] and np.array_equal(episodes[0].frames, PLAYED[0].frames)


def test_rewards_are_the_raw_score(tmp_path: Path) -> None:
    PLAYED[0].rewards[3] = 700
    write_episodes(tmp_path, PLAYED)
    assert read(tmp_path, 5)[0].rewards[3] == 700


def test_an_episode_without_a_transition_is_left_out(tmp_path: Path) -> None:
    alone = {name: values[:1] for name, values in features_of(PLAYED[0]).items()}
    write_records(tmp_path / "Pong/run_1-00001-of-00050", [example(alone), example(features_of(PLAYED[1], 1))])
    assert facts(read(tmp_path, 100), "episode") == [1]


def test_no_further_than_needed(tmp_path: Path) -> None:
    path = write_episodes(tmp_path, PLAYED)
    path.write_bytes(path.read_bytes()[:-5])
    assert list(map(len, read(tmp_path, 16))) == [10, 6]
    for steps, verify in ((16, True), (26, False)):
        with pytest.raises(DatasetError, match=f"{path} is truncated in record"):
            read(tmp_path, steps, verify=verify)


def test_several_files(tmp_path: Path) -> None:
    for checkpoint in (0, 3):
        write_episodes(tmp_path, PLAYED, checkpoint=checkpoint)
    files = find_records(tmp_path, ["pong"], [1], [3, 0, 3])["pong"]
    episodes = list(read_record_episodes(files, 12, 6))
    assert facts(episodes, "checkpoint") == [0, 0, 3, 3]
    assert list(map(len, episodes)) == [10, 2, 10, 2]
    with pytest.raises(InputError, match="steps"):
        read_record_episodes(files, 0, 6)


def without(name: str) -> Callable[[Features], Features]:
    return lambda features: {key: values for key, values in features.items() if key != name}


def other(name: str, values: list[Any]) -> Callable[[Features], Features]:
    return lambda features: {**features, name: values}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("observations"), "no observations; it holds actions, checkpoint_idx"),
        (lambda _: {"steps/action": [1, 2]}, "no observations, actions, unclipped_rewards, discounts; it holds steps/action"),
        (other("actions", [0.5] * 11), "actions are float32 instead of int64"),
        (other("observations", [1] * 11), "observations are int64 instead of bytes"),
        (other("unclipped_rewards", [0.0] * 10), "different lengths: observations 11, actions 11, unclipped_rewards 10"),
        (other("actions", [0, 6] * 5 + [0]), r"action 6 at step 1; it must be in 0\.\.5"),
        (other("actions", [-1] * 11), "action -1 at step 0"),
        (other("unclipped_rewards", [float("nan")] * 11), "no finite numbers"),
        (other("observations", [b"<html>"] * 11), "no image at step 0; it begins with b'<html>'"),
        (other("observations", [b""] * 11), "no image at step 0"),
        (other("observations", [PNG[:16] + b"\0\0\x7f\xff" * 2 + PNG[24:]] * 11), r"shape \(32767, 32767\)"),
        (other("observations", [PNG[:40]] * 11), "a damaged image at step 0"),
        (other("observations", [cv2.imencode(".png", np.zeros((84, 80), np.uint8))[1].tobytes()] * 11), r"shape \(84, 80\)"),
        (other("observations", [cv2.imencode(".png", np.zeros((84, 84, 3), np.uint8))[1].tobytes()] * 11), r"\(84, 84, 3\)"),
        (other("observations", [cv2.imencode(".png", np.zeros((84, 84), np.uint16))[1].tobytes()] * 11), "uint16 at step 0"),
    ],
)
def test_records_of_something_else(tmp_path: Path, change: Callable[[Features], Features], message: str) -> None:
    path = tmp_path / "Pong/run_1-00001-of-00050"
    write_records(path, [example(features_of(PLAYED[1])), example(change(features_of(PLAYED[0])))])
    assert len(read(tmp_path, 6)) == 1
    with pytest.raises(DatasetError, match=rf"{path} holds no episode in record 1: .*{message}"):
        read(tmp_path, 20)


def test_records_of_nothing(tmp_path: Path) -> None:
    write_records(tmp_path / "Pong/run_1-00001-of-00050", [b"\x0b\x01"])
    with pytest.raises(DatasetError, match=r"no episode in record 0: it is no tf\.train\.Example"):
        read(tmp_path, 20)


def test_where_files_are(tmp_path: Path) -> None:
    path = write_episodes(tmp_path, PLAYED, game="star_gunner", run=2, checkpoint=48, files=49)
    assert find_records(tmp_path, ["StarGunner"], [2], [48]) == {"stargunner": [RecordFile("stargunner", 2, 48, path)]}
    with pytest.raises(DatasetError) as error:
        find_records(tmp_path, ["stargunner", "up_n_down"], [2], [48, 49])
    assert str(error.value) == (
        f"missing under {tmp_path}: star_gunner/run_2-00049-of-00050, UpNDown/run_2-00048-of-00050, "
        "UpNDown/run_2-00049-of-00050"
    )
    with pytest.raises(DatasetError, match="no folder"):
        find_records(tmp_path / "nowhere", ["pong"], [1], [1])
    with pytest.raises(UnknownNameError, match="pnog"):
        find_records(tmp_path, ["pnog"], [1], [1])
    with pytest.raises(InputError, match="runs and checkpoints"):
        find_records(tmp_path, ["pong"], [], [1])


def test_starts_of_all_files_are_checked(tmp_path: Path) -> None:
    write_episodes(tmp_path, PLAYED)
    write_episodes(tmp_path, PLAYED, checkpoint=2).write_bytes(b"<html>")
    files = find_records(tmp_path, ["pong"], [1], [1, 2])["pong"]
    check_records(files[:1])
    with pytest.raises(DatasetError, match="00002-of-00050 is no TFRecord file; it begins with b'<html>'"):
        check_records(files)
