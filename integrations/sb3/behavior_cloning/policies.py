"""Rainbow's network as a classifier of actions."""

from __future__ import annotations

from typing import Any, ClassVar

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor
from torch.distributions import Categorical

from pretrainrl.integrations.sb3.precision import mixed_precision
from pretrainrl.integrations.sb3.rainbow.policies import RainbowPolicy

_ONE_OUTPUT_AN_ACTION = {"distributional": None, "dueling": False, "noisy": False}


class BehaviorCloningPolicy(RainbowPolicy):
    """Rainbow's policy without a target network, whose outputs `q_net.q_values` are logits of the actions.

    Args:
        observation_space: of the environment.
        action_space: of the environment.
        lr_schedule: learning rate by what remains of training, from 1 to 0.
        **kwargs: those of `RainbowPolicy` from `net_arch` to `optimizer_kwargs`.

    Raises:
        InputError: for arguments that do not fit.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, action_space, lr_schedule, **{**kwargs, **_ONE_OUTPUT_AN_ACTION})

    def _build(self, lr_schedule: Schedule) -> None:
        self.q_net = self.make_q_net()
        self.optimizer = self.optimizer_class(self.q_net.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def logits(self, obs: PyTorchObs, *, augment: bool = False, encoded: bool = False, precision: str = "32-true") -> Tensor:
        """Logits of every action, (B, n_actions) float32.

        Args:
            obs: (B, ...), as the environment gives them, or `encoded`.
            augment: images are shifted and vary in intensity, each sample in its own way.
            encoded: they are what the frozen encoder made of observations.
            precision: `32-true`, or `bf16-mixed`: all but a frozen encoder computes in bfloat16.
        """
        net = self.q_net
        shown = obs if encoded else net.encode(obs, augment=augment)
        with mixed_precision(precision, self.device):
            outputs = net.evaluate(shown)
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
