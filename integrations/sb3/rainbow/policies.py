"""Rainbow's networks, and the policies that hold them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from pretrainrl.encoders.observation_spaces import tensor_ready
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.sb3.encoding.extractor import PretrainedExtractor
from pretrainrl.integrations.sb3.encoding.vec_encode import one_view, plain_view
from pretrainrl.integrations.sb3.rainbow.augmentation import augment_preprocessed, augment_stored, map_entries
from pretrainrl.integrations.sb3.rainbow.heads import ActionHead, Distributional, NoisyLinear, draw_noise, make_return_head


class RainbowNetwork(BasePolicy):
    """Features extractor, head, and the reading of the head's outputs as returns.

    Args:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
        features_extractor: Module that maps preprocessed observations to features.
        features_dim: Width of the features.
        net_arch: Widths of the head's hidden layers.
        activation_fn: Activation after hidden layers.
        normalize_images: Whether images are divided by 255.
        distributional: Representation of returns: `c51`, `quantile`, or None for their mean.
        n_atoms: Number of atoms of `c51`, at least 2.
        n_quantiles: Number of quantiles of `quantile`, at least 1.
        v_min: Least atom of `c51`.
        v_max: Greatest atom of `c51`.
        dueling: Whether there are separate streams for values and advantages.
        noisy: Whether there is learned noise in the head's weights.
    """

    action_space: spaces.Discrete

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        net_arch: list[int],
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        *,
        distributional: Distributional | None = "c51",
        n_atoms: int = 51,
        n_quantiles: int = 200,
        v_min: float = -10.0,
        v_max: float = 10.0,
        dueling: bool = True,
        noisy: bool = True,
    ) -> None:
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        self._arguments = {
            "features_dim": features_dim,
            "net_arch": net_arch,
            "activation_fn": activation_fn,
            "distributional": distributional,
            "n_atoms": n_atoms,
            "n_quantiles": n_quantiles,
            "v_min": v_min,
            "v_max": v_max,
            "dueling": dueling,
            "noisy": noisy,
        }
        self.values = make_return_head(distributional, n_atoms=n_atoms, n_quantiles=n_quantiles, v_min=v_min, v_max=v_max)
        self.head = ActionHead(
            features_dim, int(action_space.n), self.values.size, net_arch, activation_fn, dueling=dueling, noisy=noisy
        )
        # Convolutions are fastest in this layout. It changes where numbers lie in memory, and not which they are.
        self.features_extractor.to(memory_format=torch.channels_last)
        self._noisy_layers = [module for module in self.head.modules() if isinstance(module, NoisyLinear)]

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Map observations to the outputs of every action, (B, n_actions, size)."""
        plain = plain_view(obs, self.observation_space)
        outputs: Tensor = self.head(self.extract_features(plain, self.features_extractor))
        return outputs

    def q_values(self, obs: PyTorchObs) -> Tensor:
        """Map observations to expected returns, (B, n_actions)."""
        return self.values.mean(self(obs))

    def encode(self, obs: PyTorchObs, *, augment: bool = False) -> PyTorchObs:
        """Preprocess observations, and encode them where the extractor begins with a frozen encoder.

        What is returned does not depend on what is trained, so `forward_encoded` of the online and of the target network can
        share it.

        Args:
            obs: Observations (B, ...), as they are stored.
            augment: Whether images are shifted and vary in intensity, feature maps are shifted, an augmented view is drawn;
                each sample in its own way. Without, of views the plain one is read.
        """
        space = self.observation_space
        chosen = augment_stored(obs, space) if augment else plain_view(obs, space)
        encoded: PyTorchObs = _preprocess(chosen, space, self.normalize_images)
        if augment:
            encoded = augment_preprocessed(encoded, space)
        extractor = self.features_extractor
        if isinstance(extractor, PretrainedExtractor) and extractor.frozen:
            assert isinstance(encoded, Tensor)
            return extractor.encode(encoded)
        return encoded

    def forward_encoded(self, encoded: PyTorchObs) -> Tensor:
        """Map what `encode` returns to the outputs of every action, (B, n_actions, size)."""
        extractor = self.features_extractor
        if isinstance(extractor, PretrainedExtractor):
            assert isinstance(encoded, Tensor)
            features = extractor.apply_neck(encoded if extractor.frozen else extractor.encode(encoded))
        else:
            features = extractor(encoded)
        outputs: Tensor = self.head(features)
        return outputs

    def draw_noise(self, rows: int = 1) -> None:
        """Draw new noise for the weights, the same for all rows of a batch, or for each of `rows` its own."""
        draw_noise(self._noisy_layers, rows)

    def clear_noise(self) -> None:
        """Remove the noise from the weights."""
        for layer in self._noisy_layers:
            layer.noise = None

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._arguments, "features_extractor": self.features_extractor}

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> Tensor:
        """Choose actions (B,) of greatest value, as noisy weights see it unless `deterministic`."""
        if deterministic:
            self.clear_noise()
        else:
            self.draw_noise(_batch_size(observation))
        actions = self.q_values(observation).argmax(dim=1)
        self.clear_noise()
        return actions


class RainbowPolicy(BasePolicy):
    """Policy with an online and a target network.

    What `Rainbow` takes by the same name it gives to its policy, and need not be given in `policy_kwargs`.

    Args:
        observation_space: Space of the environment's observations.
        action_space: Space of the environment's actions.
        lr_schedule: Learning rate as a function of what remains of training, from 1 to 0.
        net_arch: Widths of the head's hidden layers, of both streams if dueling; by default none after `NatureCNN`, else
            `[64, 64]`. They are noisy too, which the layers of the features extractor are not.
        activation_fn: Activation after hidden layers.
        features_extractor_class: Class of the features extractor; by default the policy's own, of Stable-Baselines3.
        features_extractor_kwargs: Arguments of the features extractor.
        normalize_images: Whether images are divided by 255.
        optimizer_class: Class of the optimizer.
        optimizer_kwargs: Arguments of the optimizer but the learning rate; for Adam, by default `eps=1.5e-4` and `fused=True`.
        acting_net: Network that chooses actions: `online` or `target`.
        **net_kwargs: Further arguments of `RainbowNetwork`, from `distributional` on.

    Raises:
        InputError: When arguments do not fit.
        UnknownNameError: When `distributional` or `acting_net` is none of these.
    """

    action_space: spaces.Discrete
    q_net: RainbowNetwork
    q_net_target: RainbowNetwork
    default_features_extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        *,
        acting_net: Literal["online", "target"] = "online",
        **net_kwargs: Any,
    ) -> None:
        if acting_net not in ("online", "target"):
            raise UnknownNameError.of("acting_net", str(acting_net), ("online", "target"))
        extractor = features_extractor_class or self.default_features_extractor
        _check_extractor(extractor, observation_space, normalize_images)
        if optimizer_kwargs is None:
            optimizer_kwargs = {"eps": 1.5e-4, "fused": True} if issubclass(optimizer_class, torch.optim.Adam) else {}
        super().__init__(
            observation_space,
            action_space,
            extractor,
            # SB3 writes into this dictionary.
            dict(features_extractor_kwargs or {}),
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            normalize_images=normalize_images,
        )
        if net_arch is None:
            net_arch = [] if extractor is NatureCNN else [64, 64]
        self.acting_net = acting_net
        self.net_args: dict[str, Any] = {
            "observation_space": observation_space,
            "action_space": action_space,
            "net_arch": net_arch,
            "activation_fn": activation_fn,
            "normalize_images": normalize_images,
            **net_kwargs,
        }
        self._build(lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        """Make both networks, equal at first, and the online one's optimizer."""
        self.q_net = self.make_q_net()
        self.q_net_target = self.make_q_net()
        self.q_net_target.load_state_dict(self.q_net.state_dict())
        self.q_net_target.set_training_mode(False)
        self.optimizer = self.optimizer_class(self.q_net.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def obs_to_tensor(self, observation: Any) -> tuple[PyTorchObs, bool]:
        """Turn observations into tensors, flipped and read-only arrays among them, and tell whether they are several."""
        arrays = observation if isinstance(observation, dict) else {"": observation}
        ready = {key: tensor_ready(np.asarray(array)) for key, array in arrays.items()}
        return super().obs_to_tensor(ready if isinstance(observation, dict) else ready[""])

    def make_q_net(self) -> RainbowNetwork:
        """Make a network with a features extractor of its own."""
        return RainbowNetwork(**self._update_features_extractor(self.net_args, features_extractor=None)).to(self.device)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """Make a features extractor, which reads a view at a time where observations are views."""
        return self.features_extractor_class(one_view(self.observation_space), **self.features_extractor_kwargs)

    def forward(self, obs: PyTorchObs, deterministic: bool = True) -> Tensor:
        """Choose actions (B,)."""
        return self._predict(obs, deterministic=deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> Tensor:
        net = self.q_net if self.acting_net == "online" else self.q_net_target
        return net._predict(observation, deterministic=deterministic)

    def draw_noise(self) -> None:
        """Draw new noise for the weights of both networks."""
        self.q_net.draw_noise()
        self.q_net_target.draw_noise()

    def set_training_mode(self, mode: bool) -> None:
        """Set the online network's mode; the target network is always evaluated. Noise is forgotten in evaluation."""
        self.q_net.set_training_mode(mode)
        self.q_net_target.clear_noise()
        self.training = mode

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            **{key: value for key, value in self.net_args.items() if key not in ("observation_space", "action_space")},
            "acting_net": self.acting_net,
            "lr_schedule": self._dummy_schedule,
            "features_extractor_class": self.features_extractor_class,
            "features_extractor_kwargs": self.features_extractor_kwargs,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }


MlpPolicy = RainbowPolicy


class CnnPolicy(RainbowPolicy):
    """`MlpPolicy` for images: its default extractor is `NatureCNN`."""

    default_features_extractor: ClassVar[type[BaseFeaturesExtractor]] = NatureCNN


class MultiInputPolicy(RainbowPolicy):
    """`MlpPolicy` for Dict observations: its default extractor is `CombinedExtractor`."""

    default_features_extractor: ClassVar[type[BaseFeaturesExtractor]] = CombinedExtractor


def _check_extractor(extractor: type[BaseFeaturesExtractor], space: spaces.Space[Any], normalize_images: bool) -> None:
    """Check what Stable-Baselines3 asserts late or not at all."""
    if issubclass(extractor, CombinedExtractor) != isinstance(space, spaces.Dict) and issubclass(
        extractor, CombinedExtractor | FlattenExtractor | NatureCNN
    ):
        raise InputError(f"MultiInputPolicy is for Dict observations, and they need it; got {space}")
    if issubclass(extractor, NatureCNN) and not is_image_space(space, normalized_image=not normalize_images):
        raise InputError(f"CnnPolicy is for images, got {space}; use MlpPolicy, or give it a features_extractor_class")


def _batch_size(obs: PyTorchObs) -> int:
    return len(next(iter(obs.values())) if isinstance(obs, dict) else obs)


def _preprocess(obs: PyTorchObs, space: spaces.Space[Any], normalize_images: bool) -> Any:
    """Preprocess as `preprocess_obs` does, but divide images in place: a second large tensor costs far more than that."""

    def preprocess(each: Tensor, of: spaces.Space[Any]) -> Any:
        if normalize_images and is_image_space(of):
            # The layout in which convolutions are fastest: made once here, rather than by every network for itself.
            layout = torch.channels_last if each.dim() == 4 else torch.preserve_format
            return each.to(torch.float32, memory_format=layout).div_(255)
        return preprocess_obs(each, of, normalize_images=normalize_images)

    return map_entries(preprocess, obs, space)
