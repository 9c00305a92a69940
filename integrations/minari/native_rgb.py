"""Minari datasets of an Atari game's own coloured frames become datasets of the frames that encoders see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import minari
import numpy as np
import numpy.typing as npt

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.sources.dqn_replay import count_actions
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.games import find_game
from pretrainrl.integrations.minari.metadata import dataset_id, datasets_root
from pretrainrl.integrations.minari.write import write_dataset

_AS_SOURCE = "as in the source"
_MAX_RAW_FRAMES = 108_000  # half an hour, after which ALE's environments break an episode off


@dataclass(frozen=True)
class NativeDataset:
    """A Minari dataset of native frames, `(210, 160, 3)` uint8.

    Attributes:
        minari: the dataset.
        name: id of the dataset.
        kind: Kind of the dataset that it becomes, e.g. `farama-expert`.
        game: slug.
    """

    minari: minari.MinariDataset
    name: str
    kind: str
    game: str

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """What the environment was made with, as far as the dataset says."""
        return dict(self.minari.env_spec.kwargs) if self.minari.env_spec else {}


def open_native(name: str) -> NativeDataset:
    """Open the Minari dataset `name`, downloading it as Minari does if it is not there.

    Args:
        name: id, e.g. `atari/pong/expert-v0`.

    Raises:
        InputError: when it is not an id with a version.
        UnknownNameError: when it is of a game that does not exist.
        DatasetError: when it cannot be had or read, or holds something else.
    """
    match = re.fullmatch(r"(?:[\w-]+/)*(?P<kind>[\w-]+)-v\d+", name)
    if match is None:
        raise InputError(f"{name!r} is not a dataset id; ids look like atari/pong/expert-v0")
    local = (datasets_root() / name / "data").is_dir()
    try:
        dataset = minari.load_dataset(name, download=True)
    except Exception as error:  # of the network: of any kind
        raise DatasetError(f"{name} cannot be {'read' if local else 'downloaded'} ({error})") from error
    space = dataset.observation_space
    if getattr(space, "shape", None) == FRAME_SHAPE:
        raise DatasetError(f"{name} holds {FRAME_SHAPE} frames already; nothing is to be converted")
    if len(space.shape or ()) != 3 or space.shape[1:] != (160, 3) or space.dtype != np.uint8:
        raise DatasetError(
            f"{name} holds {space.dtype} observations of shape {space.shape}; "
            "an Atari game's own uint8 frames of shape (210, 160, 3) are needed"
        )
    game = find_game(dataset.env_spec.id if dataset.env_spec else name.split("/")[-2:][0]).slug
    expected = count_actions(game)
    if getattr(dataset.action_space, "n", None) != expected:
        raise DatasetError(f"{name} has actions {dataset.action_space}; the {expected} that do something in {game} are needed")
    return NativeDataset(dataset, name, f"farama-{match['kind']}", game)


def import_rgb(
    source: NativeDataset,
    *,
    kind: str | None = None,
    version: int = 0,
    progress: Callable[[int], None] | None = None,
    overwrite: bool = False,
) -> minari.MinariDataset:
    """Convert a dataset of native frames and write it as `pretrainrl/atari/<game>-<kind>-v<version>`.

    Frames become grey by ALE's own weights, 0.299 R + 0.587 G + 0.114 B, and 84x84 by averaging areas, as in the standard
    preprocessing. What is not there cannot be made: of the raw frames between two steps only the last was kept, so
    there is no maximum over two, and what flickers is missing from some frames. Where the source is JPEG, its errors
    stay. The metadata `preprocessing` and `source` say so. One episode of native frames is in memory at a time, for Minari
    reads no less.

    Args:
        source: from `open_native`.
        kind: of the id; by default the source's.
        version: of the id.
        progress: called with the number of new transitions after each episode.
        overwrite: replace a dataset of the same id.

    Raises:
        InputError, DatasetError: as `write_dataset`, and when the source is damaged.
    """
    facts = source.minari.storage.metadata
    author = facts.get("author") or "unknown"
    return write_dataset(
        dataset_id(source.game, kind or source.kind, version),
        _episodes(source, progress or (lambda _: None)),
        sticky_actions=source.env_kwargs.get("repeat_action_probability", 0.25),
        algorithm=str(facts.get("algorithm_name") or "unknown"),
        author=author if isinstance(author, str) else ", ".join(sorted(author)),
        metadata={"source": _provenance(source, facts), "selection": {"dataset": source.name}},
        preprocessing={
            "frame_skip": source.env_kwargs.get("frameskip", "unknown"),
            "max_pool": "none: the last raw frame",
            "grayscale": True,
            "resize": "84x84 area",
            **dict.fromkeys(("noop_max", "fire_reset", "life_loss", "reward_clipping"), _AS_SOURCE),
        },
        overwrite=overwrite,
    )


def _provenance(source: NativeDataset, facts: dict[str, Any]) -> dict[str, Any]:
    spec = source.minari.env_spec
    return {
        "dataset": source.name,
        "frames": f"{source.minari.observation_space.shape} RGB",
        "image_coding": "JPEG, lossy" if source.minari.storage.jpeg_encoding else "lossless",
        "minari_version": facts.get("minari_version"),
        "code_permalink": facts.get("code_permalink"),
        "env_id": spec.id if spec else None,
        "env_kwargs": source.env_kwargs,
        "wrappers": [wrapper.name for wrapper in spec.additional_wrappers] if spec else [],
    }


def _episodes(source: NativeDataset, progress: Callable[[int], None]) -> Iterator[Episode]:
    originals = source.minari.iterate_episodes()
    while True:
        try:
            original = next(originals)
            episode = _episode(original, source)
        except StopIteration:
            return
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise DatasetError(f"dataset {source.name} cannot be read ({error})") from error
        yield episode
        progress(len(episode))


def _episode(original: minari.EpisodeData, source: NativeDataset) -> Episode:
    length = len(original.actions)
    rewards = np.asarray(original.rewards, np.float32)
    over = bool(original.terminations[-1])
    max_raw = source.env_kwargs.get("max_num_frames_per_episode") or _MAX_RAW_FRAMES
    timed_out = length * source.env_kwargs.get("frameskip", 1) >= max_raw
    last = np.arange(length) == length - 1
    return Episode(
        frames=np.stack([standard_frame(frame) for frame in original.observations]),
        actions=np.asarray(original.actions, np.int64),
        rewards=rewards,
        terminations=last & over,
        truncations=last & (not over),
        game=source.game,
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
