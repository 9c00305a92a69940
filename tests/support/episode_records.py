"""Writes RL Unplugged's episode records with others' tools: TensorBoard's record writer and Google's protobuf."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorboard.summary.writer.record_writer import RecordWriter

from pretrainrl.data.episode import Episode

_BYTES, _FLOAT, _INT64, _STRING, _MESSAGE = 12, 2, 3, 9, 11
_FILE = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")


def _message(name: str, *fields: tuple[str, int, Any], repeated: bool = False) -> None:
    """Add a message; its fields are numbered from 1, and those of type message name theirs."""
    message = _FILE.message_type.add(name=name)
    for number, (field, kind, type_name) in enumerate(fields, 1):
        message.field.add(
            name=field,
            number=number,
            type=kind,
            label=3 if repeated else 1,
            type_name=type_name and f".tensorflow.{type_name}",
        )


_message("BytesList", ("value", _BYTES, None), repeated=True)
_message("FloatList", ("value", _FLOAT, None), repeated=True)
_message("Int64List", ("value", _INT64, None), repeated=True)
_message("Feature", *[(f"{name}_list", _MESSAGE, f"{name.capitalize()}List") for name in ("bytes", "float", "int64")])
_message("Entry", ("key", _STRING, None), ("value", _MESSAGE, "Feature"))  # what a map is made of
_message("Features", ("feature", _MESSAGE, "Entry"), repeated=True)
_message("Example", ("features", _MESSAGE, "Features"))
_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_FILE)
Example = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("tensorflow.Example"))


def example(features: Mapping[str, Sequence[Any]]) -> bytes:
    """Encode a `tf.train.Example`, whose lists are of bytes, of integers or of floats."""
    encoded = Example()
    for name, values in features.items():
        entry = encoded.features.feature.add(key=name)
        kind = "bytes" if isinstance(values[0], bytes) else "int64" if isinstance(values[0], int) else "float"
        getattr(entry.value, f"{kind}_list").value.extend(values)
    return bytes(encoded.SerializeToString())


def features_of(episode: Episode, number: int = 0, over: bool = True) -> dict[str, list[Any]]:
    """Features as RL Unplugged has them: as many steps as frames; what the last step says besides its frame is void."""
    steps = len(episode)
    return {
        "checkpoint_idx": [1],
        "episode_idx": [number],
        "episode_return": [float(episode.rewards.sum())],
        "clipped_episode_return": [float(np.clip(episode.rewards, -1, 1).sum())],
        "observations": [cv2.imencode(".png", frame)[1].tobytes() for frame in episode.frames],
        "actions": [*map(int, episode.actions), 0],
        "unclipped_rewards": [*map(float, episode.rewards), 0.0],
        "clipped_rewards": [*map(float, np.clip(episode.rewards, -1, 1)), 0.0],
        "discounts": [1.0] * steps + [0.0 if over else 1.0],
    }


def write_records(path: Path, records: Sequence[bytes], compress: bool = True) -> Path:
    """Write a file of records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb", 1) if compress else path.open("wb") as file:
        writer = RecordWriter(file)
        for record in records:
            writer.write(record)
    return path


def write_episodes(
    root: Path, episodes: Sequence[Episode], *, game: str = "Pong", run: int = 1, checkpoint: int = 1, files: int = 50
) -> Path:
    """Write one of RL Unplugged's files."""
    path = root / game / f"run_{run}-{checkpoint:05d}-of-{files:05d}"
    return write_records(path, [example(features_of(episode, number)) for number, episode in enumerate(episodes)])
