"""Rainbow's network as a classifier of actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn
from torch.distributions import Categorical

from pretrainrl.device import mixed_precision
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.behavior_cloning.demonstrations import feature_source
from pretrainrl.integrations.sb3.rainbow import Rainbow
from pretrainrl.integrations.sb3.rainbow.heads import ActionHead
from pretrainrl.integrations.sb3.rainbow.policies import RainbowPolicy

if TYPE_CHECKING:
    from pretrainrl.integrations.sb3.behavior_cloning.behavior_cloning import BehaviorCloning

_ONE_OUTPUT_AN_ACTION = {"distributional": None, "dueling": False, "noisy": False}


class BehaviorCloningPolicy(RainbowPolicy):
    """Rainbow's policy without a target network, whose outputs `q_net.q_values` are logits of the actions.

    Args:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
        lr_schedule: Learning rate as a function of what remains of training, from 1 to 0.
        **kwargs: Further arguments of `RainbowPolicy`, from `net_arch` to `optimizer_kwargs`.

    Raises:
        InputError: When arguments do not fit.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        **kwargs: Any,
    ) -> None:
        for name, value in _ONE_OUTPUT_AN_ACTION.items():
            if kwargs.get(name, value) != value:
                raise InputError(f"behavior cloning has one output an action: {name} is {value!r}, not {kwargs[name]!r}")
        super().__init__(observation_space, action_space, lr_schedule, **{**kwargs, **_ONE_OUTPUT_AN_ACTION})

    def _build(self, lr_schedule: Schedule) -> None:
        self.q_net = self.make_q_net()
        self.optimizer = self.optimizer_class(self.q_net.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def logits(self, obs: PyTorchObs, *, augment: bool = False, encoded: bool = False, precision: str = "32-true") -> Tensor:
        """Return the logits of every action, (B, n_actions) float32.

        Args:
            obs: Observations (B, ...), as the environment gives them, or `encoded`.
            augment: Whether images are shifted and vary in intensity, each sample in its own way.
            encoded: Whether they are what the frozen encoder made of observations.
            precision: Precision: `32-true`, or `bf16-mixed`, with which all but a frozen encoder computes in bfloat16.
        """
        net = self.q_net
        features = obs if encoded else net.encode(obs, augment=augment)
        with mixed_precision(precision, self.device):
            outputs = net.forward_encoded(features)
        return net.values.mean(outputs.float())

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> Tensor:
        """Choose actions (B,), the most probable ones or at random."""
        logits = self.logits(observation)
        if deterministic:
            return logits.argmax(dim=1)
        actions: Tensor = Categorical(logits=logits).sample()  # type: ignore[no-untyped-call]
        return actions

    def set_training_mode(self, mode: bool) -> None:
        """Set the network's mode."""
        self.q_net.set_training_mode(mode)
        self.training = mode


MlpPolicy = BehaviorCloningPolicy


class CnnPolicy(BehaviorCloningPolicy):
    """`MlpPolicy` for images: its default extractor is `NatureCNN`."""

    default_features_extractor: ClassVar[type[BaseFeaturesExtractor]] = NatureCNN


def initialize(agent: Rainbow, clone: BehaviorCloning) -> None:
    """See `BehaviorCloning.initialize`."""
    normalize = agent.get_vec_normalize_env()
    if normalize is not None and normalize.norm_obs:
        raise InputError("the agent's VecNormalize changes the observations that the clone learned from; take norm_obs=False")
    ours, theirs = feature_source(clone), feature_source(agent)
    if ours and theirs and ours != theirs:
        raise InputError(f"the clone reads {ours}, the agent {theirs}: give both the same encoder and dtype")
    source = clone.policy.q_net
    for net in (agent.q_net, agent.q_net_target):
        pairs = [(source.features_extractor, net.features_extractor), *_hidden_layers(source.head, net.head)]
        for old, new in pairs:
            _check_same(old, new)
        for old, new in pairs:
            _copy(old, new)


def _hidden_layers(source: ActionHead, target: ActionHead) -> list[tuple[nn.Module, nn.Module]]:
    """Return the hidden layers of the one stream, each with its counterpart in every stream of the other head."""
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
