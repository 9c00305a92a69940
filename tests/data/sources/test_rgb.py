"""Native coloured frames become what ALE and the standard preprocessing would have made of them."""

from pathlib import Path
from typing import Any

import ale_py
import cv2
import gymnasium
import minari
import numpy as np
import pytest
from dqn_shards import numbered
from native_sets import make_native

from pretrainrl.data.sources import find_sources
from pretrainrl.data.sources.rgb import standard_frame
from pretrainrl.errors import DatasetError, InputError, UnknownNameError
from pretrainrl.integrations.minari import cache_datasets, import_source, local_ids, open_dataset, write_dataset

SOURCE, NAME = "atari/pong/expert-v0", "pretrainrl/atari/pong-farama-expert-v0"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINARI_REMOTE", "hf://nobody")
    return tmp_path / "datasets"


@pytest.mark.parametrize("game", ["Pong", "Seaquest", "MsPacman"])
def test_frames_are_those_of_ale(game: str) -> None:
    gymnasium.register_envs(ale_py)
    env: Any = gymnasium.make(f"ALE/{game}-v5")
    frame, _ = env.reset(seed=0)
    for step in range(40):
        expected = cv2.resize(env.unwrapped.ale.getScreenGrayscale(), (84, 84), interpolation=cv2.INTER_AREA)
        assert np.array_equal(standard_frame(frame), expected)
        frame, *_ = env.step(step % 3 + 1)
    env.close()


def test_lossless_source() -> None:
    played = make_native(SOURCE, jpeg=False, over=True, repeat_action_probability=0.0)
    assert [made.id for made in import_source(find_sources("minari", [SOURCE]))] == [NAME]
    dataset = open_dataset(NAME)
    assert (len(dataset), dataset.game) == (2, "pong")
    for episode, original in zip(dataset, played, strict=True):
        assert np.array_equal(episode.frames, np.stack([standard_frame(frame) for frame in original.observations]))
        assert np.array_equal(episode.actions, original.actions)
        assert np.array_equal(episode.rewards, original.rewards)
        assert episode.terminations.tolist() == [False] * 11 + [True] and not episode.truncations.any()
        assert (episode.metadata["ends_by"], episode.metadata["final_observation"]) == ("game_over", "true")
    facts = dataset.metadata
    assert facts["source"]["image_coding"] == "lossless"
    assert facts["source"]["env_id"] == "ALE/Pong-v5" and facts["source"]["env_kwargs"]["frameskip"] == 4
    assert (facts["sticky_actions"], facts["algorithm_name"], facts["author"]) == (0.0, "random", {"Nobody"})
    assert facts["preprocessing"] | {"max_pool": "none: the last raw frame", "resize": "84x84 area"} == facts["preprocessing"]
    assert facts["preprocessing"]["frame_skip"] == 4
    assert cache_datasets([NAME]).lengths.tolist() == [12, 12]


def test_jpeg_source_is_told() -> None:
    played = make_native("atari/pong/human-v3", jpeg=True, frameskip=2)
    import_source(find_sources("minari", ["atari/pong/human-v3"]), kind="person", version=4)
    dataset = open_dataset("pretrainrl/atari/pong-person-v4")
    assert dataset.metadata["source"]["image_coding"] == "JPEG, lossy"
    assert dataset.metadata["preprocessing"]["frame_skip"] == 2
    [episode, _] = dataset
    assert (episode.metadata["ends_by"], episode.truncations[-1]) == ("cut", True)
    exact = np.stack([standard_frame(frame) for frame in played[0].observations])
    error = np.abs(episode.frames.astype(int) - exact)
    assert error.max() > 0 and error.mean() < 3
    assert np.array_equal(episode.frames[3], standard_frame(minari.load_dataset("atari/pong/human-v3")[0].observations[3]))


def test_time_outs() -> None:
    make_native(SOURCE, max_num_frames_per_episode=48)
    import_source(find_sources("minari", [SOURCE]))
    assert {episode.metadata["ends_by"] for episode in open_dataset(NAME)} == {"time_out"}


def test_what_is_not_native() -> None:
    write_dataset("pretrainrl/atari/pong-mine-v0", numbered([5]))
    with pytest.raises(DatasetError, match=r"pong-mine-v0 holds \(84, 84\) frames already"):
        find_sources("minari", ["pretrainrl/atari/pong-mine-v0"])
    make_native("atari/pong/ram-v0", obs_type="ram")
    with pytest.raises(DatasetError, match=r"uint8 observations of shape \(128,\); .* \(210, 160, 3\) are needed"):
        find_sources("minari", ["atari/pong/ram-v0"])
    make_native("atari/pong/full-v0", full_action_space=True)
    with pytest.raises(DatasetError, match=r"full-v0 .*has the action UP.*, and pong is played with NOOP, FIRE, RIGHT"):
        import_source(find_sources("minari", ["atari/pong/full-v0"]))
    with pytest.raises(InputError, match="atari/pong/expert-v0"):
        find_sources("minari", ["atari/pong/expert"])


@pytest.mark.filterwarnings("ignore:.* is set to None")
def test_of_no_atari_game(root: Path) -> None:
    make_native(SOURCE)
    metadata = root / SOURCE / "data/metadata.json"
    metadata.write_text(metadata.read_text().replace("ALE/Pong-v5", "Nothing/Ping-v5"))
    with pytest.raises(UnknownNameError, match="unknown game 'ping'; did you mean 'pong'"):
        find_sources("minari", [SOURCE])
    environment = gymnasium.make("CartPole-v1")
    buffers = make_native("atari/pong/other-v0", steps=2, episodes=1)
    poles = [buffer.__class__(**{**vars(buffer), "observations": np.zeros((3, 4), np.float32)}) for buffer in buffers]
    minari.create_dataset_from_buffers("gym/cartpole-v0", poles, env=environment)
    with pytest.raises(DatasetError, match=r"holds float32 observations of shape \(4,\)"):
        find_sources("minari", ["gym/cartpole-v0"])


def test_not_there_and_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(minari, "download_dataset", offline)
    with pytest.raises(DatasetError, match=r"atari/pong/expert-v0 cannot be downloaded \(no network\)"):
        find_sources("minari", [SOURCE])


@pytest.mark.parametrize("cut", [200, 20_000])
def test_damaged_source_leaves_nothing(root: Path, cut: int) -> None:
    make_native(SOURCE, episodes=4)
    path = root / SOURCE / "data/main_data.hdf5"
    content = bytearray(path.read_bytes())
    if cut == 200:
        path.write_bytes(content[:-cut])
    else:  # a picture in the middle
        start = content.rindex(b"\xff\xd8\xff")
        content[start : start + 600] = bytes(600)
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"{SOURCE} cannot be read"):
        import_source(find_sources("minari", [SOURCE]))
    assert local_ids() == [SOURCE]
    assert sorted(path.name for path in root.iterdir()) == ["atari"]
