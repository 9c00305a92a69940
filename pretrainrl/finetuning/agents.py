"""Agents on a frozen encoder, and the games that they see through it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.agent_cards import AgentPreset
from pretrainrl.encoders import Encoder, cached_encoder
from pretrainrl.finetuning.config import FinetuneConfig
from pretrainrl.integrations.sb3 import AtariVecEnv, VecEncodeObservation, neck_policy_kwargs, policy_kwargs
from pretrainrl.integrations.sb3.agents import make_agent
from pretrainrl.networks.necks import Neck


@dataclass(frozen=True)
class ObservationSetup:
    """How an agent observes a game: through an encoder in front of it, or within it.

    Attributes:
        encoder: Name, run folder or card file of the encoder.
        weights: Weights instead of the card's.
        features: Kind of features, `flat`, `pooled` or `map`, of an encoder in front; `pixels` for one within the agent.
        device: Device of encoder and agent.
        dtype: Dtype in which the encoder computes.
        neck: Name of what is trained after the encoder.
        end_to_end: Whether the encoder is trained with the agent.
        rules: Configuration of the run, for when games are cut and whether actions stick.
    """

    encoder: str | Path
    weights: str | None
    features: str
    device: torch.device
    dtype: torch.dtype
    neck: Neck
    end_to_end: bool
    rules: FinetuneConfig

    @property
    def model(self) -> Encoder:
        """The encoder."""
        return cached_encoder(self.encoder, weights=self.weights, device=self.device, dtype=self.dtype)

    def make_env(self, game: str, n_envs: int, **options: Any) -> VecEnv:
        """Make copies of a game as the agent sees it; `options` are arguments of `AtariVecEnv`."""
        frames = self.model.observation_space.shape[0]
        rules: dict[str, Any] = {
            "action_repeat_probability": self.rules.sticky_actions,
            "max_episode_steps": self.rules.max_episode_steps,
        }
        env = AtariVecEnv(game, n_envs, frame_stack=frames, **rules, **options)
        if self.features == "pixels":
            return env
        features = cast(Literal["flat", "pooled", "map"], self.features)
        return VecEncodeObservation(
            env, self.encoder, features=features, weights=self.weights, device=self.device, dtype=self.dtype
        )

    def policy(self) -> tuple[str, dict[str, Any]]:
        """Return the policy's name and arguments."""
        if self.features == "pixels":
            return "CnnPolicy", policy_kwargs(
                self.encoder, neck=self.neck, weights=self.weights, dtype=self.dtype, trainable=self.end_to_end
            )
        return "MlpPolicy", neck_policy_kwargs(neck=self.neck)


def make_run_agent(config: FinetuneConfig, setup: ObservationSetup, env: VecEnv, preset: AgentPreset) -> BaseAlgorithm:
    """Make the agent of a run, which learns in `env`, or from a dataset of its game."""
    policy, kwargs = setup.policy()
    return make_agent(config.agent, preset, env, policy=policy, policy_kwargs=kwargs, seed=config.seed, device=setup.device)
