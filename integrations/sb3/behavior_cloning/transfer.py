"""What a clone knows, as the beginning of a Rainbow agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.behavior_cloning.demonstrations import frozen_encoder
from pretrainrl.integrations.sb3.rainbow import Rainbow
from pretrainrl.integrations.sb3.rainbow.heads import ActionHead

if TYPE_CHECKING:
    from pretrainrl.integrations.sb3.behavior_cloning.behavior_cloning import BehaviorCloning


def initialise(agent: Rainbow, clone: BehaviorCloning) -> None:
    """See `BehaviorCloning.initialise`."""
    ours, theirs = frozen_encoder(clone), frozen_encoder(agent)
    if ours and theirs and (ours[0].sha256, ours[1]) != (theirs[0].sha256, theirs[1]):
        raise InputError(
            f"the clone reads {ours[0].name} ({ours[1]}), the agent {theirs[0].name} ({theirs[1]}): give both the same encoder"
        )
    source = clone.policy.q_net
    for net in (agent.q_net, agent.q_net_target):
        pairs = [(source.features_extractor, net.features_extractor), *_hidden_layers(source.head, net.head)]
        for old, new in pairs:
            _check_same(old, new)
        for old, new in pairs:
            _copy(old, new)


def _hidden_layers(source: ActionHead, target: ActionHead) -> list[tuple[nn.Module, nn.Module]]:
    """Hidden layers of the one stream, each with its counterpart in every stream of the other head."""
    streams = [stream for stream in (target.advantage, target.value) if stream is not None]
    hidden = [_linear(source.advantage)[:-1], *(_linear(stream)[:-1] for stream in streams)]
    if any(len(layers) != len(hidden[0]) for layers in hidden):
        raise InputError(f"the clone has {len(hidden[0])} hidden layers in net_arch, the agent {len(hidden[1])}")
    return [pair for layers in hidden[1:] for pair in zip(hidden[0], layers, strict=True)]


def _linear(stream: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in stream if isinstance(layer, nn.Linear)]


def _check_same(source: nn.Module, target: nn.Module) -> None:
    """Check that the target has all of the source's tensors; it may have more, such as the sizes of noise."""
    shapes = {key: tuple(tensor.shape) for key, tensor in target.state_dict().items()}
    for key, tensor in source.state_dict().items():
        if shapes.get(key) != tuple(tensor.shape):
            raise InputError(
                f"{key} has shape {tuple(tensor.shape)} in the clone's {type(source).__name__} and {shapes.get(key)} in the "
                f"agent's {type(target).__name__}: give both the same features extractor and net_arch"
            )


def _copy(source: nn.Module, target: nn.Module) -> None:
    tensors = target.state_dict()
    with torch.no_grad():
        for key, tensor in source.state_dict().items():
            tensors[key].copy_(tensor)
