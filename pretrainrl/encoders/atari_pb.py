"""Checkpoints of Atari-PB (https://arxiv.org/abs/2406.06037) and this package's ResNet-50: the same numbers.

A checkpoint is a pickled dict of state dicts: `backbone`, `neck`, `head`, and for some objectives `target_...` copies.
Its names may carry prefixes that `torch.compile` and `DataParallel` left. Only tensors are ever unpickled.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pretrainrl.encoders.resnet import ResNet50
from pretrainrl.errors import WeightsError
from pretrainrl.weights import ATARI_PB, FileContent, fetch, state_dict_errors

_PREFIX = re.compile(r"^(?:_orig_mod\.|module\.)+")
_TWIN = "stem.0.weight"  # the checkpoints hold the first convolution under two names

Networks = dict[str, dict[str, Tensor]]


def read_checkpoint(path: Path) -> Networks:
    """Return the networks of the checkpoint at `path`; see `parse_checkpoint`."""
    return parse_checkpoint(fetch([f"{ATARI_PB}{path}"]))


def parse_checkpoint(file: FileContent) -> Networks:
    """Return the state dicts of a checkpoint by the network's name, tensors by theirs without prefixes.

    Raises:
        WeightsError: When the file is no such checkpoint, is cut short, or holds pickled objects, which are never loaded.
    """
    path = file.path
    try:
        content = torch.load(io.BytesIO(file.content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} holds pickled objects or is no checkpoint; only tensors are read") from error
    except Exception as error:  # torch has no error of its own for damage
        raise WeightsError(f"{path} is not a readable checkpoint: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("backbone"), dict):
        raise WeightsError(f"{path} is not an Atari-PB checkpoint: it has no state dict `backbone`")
    networks: Networks = {}
    for name, tensors in content.items():
        if not isinstance(tensors, dict):
            continue  # epoch and step
        strangers = [str(key) for key, value in tensors.items() if not isinstance(value, Tensor)]
        if strangers:
            raise WeightsError(f"{path}: {name} has entries that are no tensors: {', '.join(sorted(strangers))}")
        networks[name] = {_PREFIX.sub("", key): value for key, value in tensors.items()}
    return networks


def resnet50_tensors(backbone: Mapping[str, Tensor], where: str) -> tuple[float, dict[str, Tensor]]:
    """Return the width multiplier of a checkpoint's `backbone` and its tensors under the names of `ResNet50`.

    Raises:
        WeightsError: When a tensor is missing, unexpected, misshapen or not finite; the message names every one.
    """
    tensors = dict(backbone)
    twin, first = tensors.pop(_TWIN, None), tensors.get("conv1.weight")
    if first is None and twin is not None:
        tensors["conv1.weight"] = twin
    width = resnet50_width(tensors)
    with torch.device("meta"):
        own = ResNet50(width=width).state_dict()
    wrong = state_dict_errors({to_checkpoint_key(key): tensor for key, tensor in own.items()}, tensors)
    if first is not None and twin is not None and not torch.equal(first, twin):
        wrong.append(f"{_TWIN} differs from conv1.weight")
    if wrong:
        raise WeightsError(f"{where} is not the backbone of an Atari-PB checkpoint: {', '.join(wrong)}")
    return width, {key: tensors[to_checkpoint_key(key)] for key in own}


def resnet50_width(backbone: Mapping[str, Tensor]) -> float:
    """Return the width multiplier that a checkpoint's `backbone` was made with; 1 where it cannot be told."""
    planes = backbone.get("layer1.0.conv1.weight")
    return planes.shape[0] / 64 if planes is not None and planes.ndim and planes.shape[0] else 1.0


def checkpoint_tensors(resnet50: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a `ResNet50` as a checkpoint's `backbone` names them, in float32."""
    tensors = {to_checkpoint_key(key): tensor.float() for key, tensor in resnet50.items()}
    return {**tensors, _TWIN: tensors["conv1.weight"]}


def to_checkpoint_key(key: str) -> str:
    """Return the checkpoint's name of `ResNet50`'s tensor `key`."""
    if key == "stem.0.weight":
        return "conv1.weight"
    stage, rest = key.removeprefix("stages.").split(".", 1)
    return f"layer{int(stage) + 1}.{rest.replace('downsample', 'shortcut')}"
