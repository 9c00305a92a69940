"""Minari datasets of an Atari game's own colored frames become episodes of the frames that encoders see.

Frames become grey by ALE's own weights, 0.299 R + 0.587 G + 0.114 B, and 84x84 by averaging areas, as in the standard
preprocessing. What the source lacks cannot be made: of the raw frames between two steps only the last was kept, so there is no
maximum over two, and objects that flicker are missing from some frames. Where the source is JPEG, its errors stay. The
metadata `preprocessing` and `source` say so.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import h5py
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Discrete
from PIL import Image

from pretrainrl.data.actions import ActionSet
from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.hdf5 import check_hdf5
from pretrainrl.data.sources import Source
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import find_game

if TYPE_CHECKING:
    import minari

_MAIN_FILE = "main_data.hdf5"
_AS_SOURCE = "as in the source"
_MAX_RAW_FRAMES = 108_000  # half an hour, after which ALE's environments break an episode off


def find_sources(ids: Sequence[str]) -> list[Source]:
    """Open Minari datasets of native frames; those that are not here are downloaded as Minari does it.

    Args:
        ids: Minari ids, e.g. `atari/pong/expert-v0`.

    Raises:
        InputError: An id has another form.
        UnknownNameError: A dataset is of a game that does not exist.
        DatasetError: A dataset cannot be downloaded or read, or holds something else.
    """
    return [_open(name) for name in dict.fromkeys(ids)]


@dataclass(kw_only=True, eq=False)
class RGBSource(Source):
    """A Minari dataset of native frames, `(210, 160, 3)` uint8.

    Attributes:
        dataset: The dataset.
        env_kwargs: Arguments with which its environment was made, as far as it says.
        actions: Actions by which it counts.
    """

    dataset: minari.MinariDataset
    env_kwargs: dict[str, Any]
    actions: ActionSet

    def files(self) -> Sequence[Path]:
        """Return the files of the dataset."""
        return sorted(path for path in self.dataset.storage.data_path.rglob("[!.]*") if path.is_file())

    def check(self) -> None:
        """Look at the actions and at the size of the first frame of each episode: Minari makes memory for as many of that."""
        storage, size = self.dataset.storage, self.dataset.observation_space.shape[1::-1]
        if storage.FORMAT != "hdf5":
            return
        try:
            with h5py.File(storage.data_path / _MAIN_FILE, "r") as file:
                for index in range(len(self.dataset)):
                    self.actions.to_minimal(file[f"episode_{index}/actions"][()])
                    if storage.jpeg_encoding:
                        _check_size(file[f"episode_{index}/observations"][0], size)
        except Exception as error:  # of h5py and Pillow
            raise DatasetError(f"dataset {self.content} cannot be read ({error or type(error).__name__})") from error

    def episodes(self) -> Iterator[Episode]:
        """Convert the episodes, one at a time; each is in memory with its native frames, for Minari reads no less."""
        originals = self.dataset.iterate_episodes()
        while True:
            try:
                episode = self._episode(next(originals))
            except StopIteration:
                return
            except Exception as error:  # of Minari and Pillow
                raise DatasetError(f"dataset {self.content} cannot be read ({error or type(error).__name__})") from error
            yield episode

    def metadata(self) -> dict[str, Any]:
        """Return where the dataset is from and how its frames were made."""
        spec, facts = self.dataset.env_spec, self.dataset.storage.metadata
        return {
            "source": {
                "dataset": self.content,
                "frames": f"{self.dataset.observation_space.shape} RGB",
                "image_coding": "JPEG, lossy" if self.dataset.storage.jpeg_encoding else "lossless",
                "minari_version": facts.get("minari_version"),
                "code_permalink": facts.get("code_permalink"),
                "env_id": spec.id if spec else None,
                "env_kwargs": self.env_kwargs,
                "wrappers": [wrapper.name for wrapper in spec.additional_wrappers] if spec else [],
            }
        }

    def _episode(self, original: minari.EpisodeData) -> Episode:
        length = len(original.actions)
        rewards = np.asarray(original.rewards, np.float32)
        over = bool(original.terminations[-1])
        max_raw = _number(self.env_kwargs.get("max_num_frames_per_episode"), _MAX_RAW_FRAMES)
        timed_out = length * _number(self.env_kwargs.get("frameskip"), 1) >= max_raw
        last = np.arange(length) == length - 1
        return Episode(
            frames=np.stack([standard_frame(frame) for frame in original.observations]),
            actions=self.actions.to_minimal(original.actions),
            rewards=rewards,
            terminations=last & over,
            truncations=last & (not over),
            game=self.game,
            metadata={
                "source_episode": int(original.id),
                "ends_by": "game_over" if over else "time_out" if timed_out else "cut",
                "final_observation": "true",
                "return": float(rewards.sum()),
            },
        )


def standard_frame(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert a native frame, `(210, 160, 3)` uint8, to grey `(84, 84)` uint8."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)  # the same bits as ALE's own grey screen
    return cv2.resize(grey, FRAME_SHAPE, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _open(name: str) -> RGBSource:
    match = re.fullmatch(r"(?:[\w-]+/)*(?P<kind>[\w-]+)-v\d+", name)
    if match is None:
        raise InputError(f"{name!r} is not a dataset id; ids look like atari/pong/expert-v0")
    dataset = _load(name)
    actions = _checked_actions(name, dataset)
    env_kwargs = dict(dataset.env_spec.kwargs) if dataset.env_spec else {}
    facts = dataset.storage.metadata
    author = facts.get("author") or "unknown"
    return RGBSource(
        game=actions.game,
        actions=actions,
        kind=f"farama-{match['kind']}",
        content=name,
        transitions=int(dataset.total_steps),
        selection={"dataset": name},
        algorithm=str(facts.get("algorithm_name") or "unknown"),
        author=author if isinstance(author, str) else ", ".join(sorted(author)),
        preprocessing={
            "frame_skip": env_kwargs.get("frameskip", "unknown"),
            "max_pool": "none: the last raw frame",
            "grayscale": True,
            "resize": "84x84 area",
            **dict.fromkeys(("noop_max", "fire_reset", "life_loss", "reward_clipping"), _AS_SOURCE),
        },
        sticky_actions=min(_number(env_kwargs.get("repeat_action_probability", 0.25), 0), 1),
        dataset=dataset,
        env_kwargs=env_kwargs,
    )


def _load(name: str) -> minari.MinariDataset:
    import minari
    from minari.storage.local import get_dataset_path

    local = False
    try:
        data = get_dataset_path(name) / "data"
        local = data.is_dir()
        if not local:
            minari.download_dataset(name)
        _check_files(data)
        return minari.load_dataset(name)
    except Exception as error:  # of the network: of any kind
        raise DatasetError(f"{name} cannot be {'read' if local else 'downloaded'} ({error})") from error


def _check_files(data: Path) -> None:
    """Check what Minari does not before it opens a dataset.

    It would make the environment of one without spaces, which runs whatever code the metadata name.
    """
    facts = json.loads((data / "metadata.json").read_text(encoding="utf-8"))
    if not (isinstance(facts.get("observation_space"), str) and isinstance(facts.get("action_space"), str)):
        raise ValueError("it does not say its spaces")
    for name in ("total_episodes", "total_steps"):
        if not isinstance(count := facts.get(name), int | float) or not 0 <= count < math.inf:
            raise ValueError(f"{name} is {count!r:.40}")
    if facts.get("data_format") == "hdf5":
        check_hdf5(data / _MAIN_FILE)


def _check_size(jpeg: npt.NDArray[np.uint8], size: tuple[int, ...]) -> None:
    with Image.open(io.BytesIO(jpeg.tobytes())) as image:
        if image.size != size:
            raise ValueError(f"an image of {image.size} pixels instead of {size}")


def _number(value: Any, default: float) -> float:
    """Return an argument of an environment, if it is a number above 0."""
    return value if isinstance(value, int | float) and value > 0 else default


def _checked_actions(name: str, dataset: minari.MinariDataset) -> ActionSet:
    """Return the actions, and with them the game, if frames and actions are what they should be."""
    space = dataset.observation_space
    if getattr(space, "shape", None) == FRAME_SHAPE:
        raise DatasetError(f"{name} holds {FRAME_SHAPE} frames already; nothing is to be converted")
    if len(space.shape or ()) != 3 or space.shape[1:] != (160, 3) or space.dtype != np.uint8:
        raise DatasetError(
            f"{name} holds {space.dtype} observations of shape {space.shape}; "
            "an Atari game's own uint8 frames of shape (210, 160, 3) are needed"
        )
    game = find_game(dataset.env_spec.id if dataset.env_spec else name.split("/")[-2:][0])
    space = dataset.action_space
    if not isinstance(space, Discrete) or space.start != 0:
        raise DatasetError(f"{name} has actions {space}; what is needed is one of {game.slug}'s actions, counted from 0")
    try:
        return ActionSet.of(game.slug, int(space.n), dataset.storage.metadata.get("action_meanings"))
    except DatasetError as error:
        raise DatasetError(f"{name} has actions {space}: {error}") from error
