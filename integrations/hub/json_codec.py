"""Arguments of agents in JSON's types; no object is built from data but those named here."""

from __future__ import annotations

import math
from typing import Any

import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn

from pretrainrl.errors import CardError, InputError
from pretrainrl.integrations.sb3 import CompactReplayBuffer, NeckExtractor, PretrainedExtractor, PrioritizedReplayBuffer

_KNOWN = (
    *(PretrainedExtractor, NeckExtractor, CombinedExtractor, FlattenExtractor, NatureCNN),
    *(CompactReplayBuffer, PrioritizedReplayBuffer),
    *(nn.ELU, nn.GELU, nn.LeakyReLU, nn.ReLU, nn.SiLU, nn.Tanh),
    *(torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.SGD, RMSpropTFLike),
)
CLASSES: dict[str, type] = {cls.__name__: cls for cls in _KNOWN}
_CLASS, _TUPLE, _LINEAR = "$class", "$tuple", "$linear"  # keys of the objects that stand for what JSON does not have


def to_json(value: Any, name: str) -> Any:
    """Turn a value into JSON's types.

    Args:
        value: Number, text, list, tuple, dictionary, schedule that is constant or linear, or one of a few classes.
        name: Name of the argument, for the error.

    Raises:
        InputError: When it is anything else.
    """
    if isinstance(value, FloatSchedule):
        value = value.value_schedule
    if isinstance(value, ConstantSchedule):
        value = value.val
    if isinstance(value, TrainFreq):
        value = (value.frequency, value.unit.value)
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list):
        return [to_json(item, name) for item in value]
    if isinstance(value, tuple):
        return {_TUPLE: [to_json(item, name) for item in value]}
    if isinstance(value, dict) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: to_json(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, type) and CLASSES.get(value.__name__) is value:
        return {_CLASS: value.__name__}
    if (line := _line(value)) is not None:
        return {_LINEAR: line}
    raise InputError(f"{name} is {value!r}, which only a pickle can hold")


def _line(value: Any) -> list[float] | None:
    """Return start, end and end fraction of a schedule; None if it is not linear."""
    if isinstance(value, LinearSchedule):
        return [value.start, value.end, value.end_fraction]
    if type(value).__qualname__ == "SimpleLinearSchedule" and type(value).__module__ == "rl_zoo3.utils":
        return [value.initial_value, 0.0, 1.0]
    return None


def from_json(value: Any) -> Any:
    """Turn what `to_json` returns back.

    Raises:
        CardError: When `to_json` never returns such a value.
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$class": str(name), **others} if not others and name in CLASSES:
            return CLASSES[name]
        case {"$tuple": list(items), **others} if not others:
            return tuple(from_json(item) for item in items)
        case {"$linear": [float() | int() as start, float() | int() as end, float() | int() as fraction], **others} if (
            not others
        ):
            return LinearSchedule(start, end, fraction)
    if any(key.startswith("$") for key in value):
        raise CardError(f"{value!r} stands for nothing that is known here")
    return {key: from_json(item) for key, item in value.items()}
