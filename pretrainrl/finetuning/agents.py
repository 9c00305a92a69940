"""Agents on a frozen encoder, and the games that they see through it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from sb3_contrib import QRDQN
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.device import resolve_dtype
from pretrainrl.encoders import Encoder, cached_encoder
from pretrainrl.finetuning.config import Config
from pretrainrl.integrations.sb3 import (
    AtariVecEnv,
    BehaviorCloning,
    CompactReplayBuffer,
    Rainbow,
    VecEncodeObservation,
    neck_policy_kwargs,
    policy_kwargs,
)
from pretrainrl.networks.necks import Neck

MAX_EPISODE_STEPS = 27_000  # the study's


@dataclass(frozen=True)
class ObservationSetup:
    """How an agent sees: through the encoder in front of it, or one in itself.

    Attributes:
        encoder: name, run folder or card file.
        weights: instead of the card's.
        features: `flat`, `pooled` or `map` of the one in front; `pixels` for one in the agent.
        device: of encoder and agent.
        neck: what is trained after the encoder, as `policy_kwargs` takes it.
    """

    encoder: str | Path
    weights: str | None
    features: str
    device: torch.device
    neck: Neck = "mlp"

    @property
    def dtype(self) -> torch.dtype:
        """What the encoder computes in: bfloat16 where the device has it in hardware."""
        return resolve_dtype("auto", self.device)

    @property
    def model(self) -> Encoder:
        """The encoder."""
        return cached_encoder(self.encoder, weights=self.weights, device=self.device, dtype=self.dtype)

    def games(self, game: str, n_envs: int, **options: Any) -> VecEnv:
        """Make copies of a game as the agent sees it, without sticky actions; `options` are those of `AtariVecEnv`."""
        frames = self.model.observation_space.shape[0]
        options = {"action_repeat_probability": 0.0, "max_episode_steps": MAX_EPISODE_STEPS, **options}
        games = AtariVecEnv(game, n_envs, frame_stack=frames, **options)
        if self.features == "pixels":
            return games
        features = cast(Literal["flat", "pooled", "map"], self.features)
        return VecEncodeObservation(
            games, self.encoder, features=features, weights=self.weights, device=self.device, dtype=self.dtype
        )

    def policy(self) -> tuple[str, dict[str, Any]]:
        """Return the policy's name and arguments."""
        if self.features == "pixels":
            return "CnnPolicy", policy_kwargs(self.encoder, neck=self.neck, weights=self.weights, dtype=self.dtype)
        return "MlpPolicy", neck_policy_kwargs(neck=self.neck)


def make_agent(config: Config, sight: ObservationSetup, env: VecEnv, arguments: dict[str, Any]) -> BaseAlgorithm:
    """Make the agent of `config` with the algorithm's `arguments`, which learns in `env`, or from a dataset of its game."""
    policy, kwargs = sight.policy()
    common: dict[str, Any] = {"env": env, "seed": config.seed, "device": sight.device}
    if config.algorithm == "rainbow":
        return Rainbow(policy, policy_kwargs=kwargs, **common, **arguments)
    if config.algorithm == "bc":
        return BehaviorCloning(policy, policy_kwargs=kwargs, **common, **arguments)
    if config.algorithm == "ppo":
        return PPO(policy, policy_kwargs=kwargs, **common, **arguments)
    arguments = dict(arguments)
    replay = {"n_steps": arguments.pop("n_steps"), "gamma": arguments["gamma"]}
    return QRDQN(
        policy,
        policy_kwargs={**kwargs, "n_quantiles": arguments.pop("n_quantiles")},
        replay_buffer_class=CompactReplayBuffer,
        replay_buffer_kwargs=replay,
        **common,
        **arguments,
    )
