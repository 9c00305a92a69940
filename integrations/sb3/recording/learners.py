"""Agents that learn a game within an hour of one processor core, and all that their learning depends on."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.recording.ram_agent import RamExtractor, VecRamObservation
from pretrainrl.integrations.sb3.replay.compact_replay import CompactReplayBuffer
from pretrainrl.paths import save_with_torch

LEARNERS = {
    "ppo": "PPO of Stable-Baselines3 while it learned the game from pixels",
    "qrdqn": "QR-DQN of Stable-Baselines3 while it learned the game from pixels",
    "ppo-ram": "PPO of Stable-Baselines3 while it learned the game from the console's memory",
    "qrdqn-ram": "QR-DQN of Stable-Baselines3 while it learned the game from the console's memory",
}
ROLLOUT = 128  # steps of every game between PPO's updates
_COUNTERS = (
    "num_timesteps",
    "_n_calls",
    "_n_updates",
    "_episode_num",
    "exploration_rate",
    "_current_progress_remaining",
    "_epoch",  # of behaviour cloning
)
_STATE, _REPLAY = "agent.pt", "replay.npz"


def hyperparameters(kind: str, steps: int, num_envs: int) -> dict[str, Any]:
    """Return what distinguishes the agent from Stable-Baselines3's defaults, JSON values; it learns for `steps`."""
    if kind in ("ppo", "ppo-ram"):  # those of Stable-Baselines3's zoo, but for the learning rate of the smaller network
        return {
            "learning_rate": 2.5e-4 if kind == "ppo" else 5e-4,
            "n_steps": ROLLOUT,
            "batch_size": 32 * num_envs if kind == "ppo" else 256,
            "n_epochs": 4,
            "clip_range": 0.1,
            "ent_coef": 0.01,
            "vf_coef": 0.5,
        }
    # One update for every four transitions, as in the study of DQN; the rest is for short learning.
    return {
        "learning_rate": 1e-4 if kind == "qrdqn" else 2.5e-4,
        "learning_starts": max(min(10_000, steps // 20), 8 * num_envs),
        "train_freq": 1,
        "gradient_steps": max(1, num_envs // 4),
        "batch_size": 32,
        "buffer_size": max(min(50_000, steps), 16 * num_envs),
        "n_steps": 3,
        "gamma": 0.99,
        "target_update_interval": 2_000,
        "exploration_fraction": 0.25,
        "exploration_final_eps": 0.01,
        "n_quantiles": 51,
    }


def make_learner(kind: str, env: VecEnv, settings: dict[str, Any], seed: int, device: str = "auto") -> BaseAlgorithm:
    """Make the agent `kind`, one of `LEARNERS`, with the hyper-parameters `settings`; from pixels with the network of DQN."""
    settings = dict(settings)
    extractor: dict[str, Any] = {}
    if kind.endswith("-ram"):
        env = VecRamObservation(env)
        extractor = {
            "features_extractor_class": RamExtractor,
            "net_arch": [],
            "optimizer_kwargs": {"eps": 1e-5, "fused": True},
        }
    common: dict[str, Any] = {"env": env, "seed": seed, "device": device}
    policy = "MlpPolicy" if extractor else "CnnPolicy"
    if kind == "ppo-ram":
        settings["learning_rate"] = LinearSchedule(settings["learning_rate"], 0.05 * settings["learning_rate"], 1.0)
    if kind.startswith("ppo"):
        return PPO(policy, **common, policy_kwargs=extractor, **settings)
    replay = {"n_steps": settings.pop("n_steps"), "gamma": settings["gamma"]}
    extractor["n_quantiles"] = settings.pop("n_quantiles")
    return QRDQN(
        policy,
        **common,
        replay_buffer_class=CompactReplayBuffer,
        replay_buffer_kwargs=replay,
        policy_kwargs=extractor,
        **settings,
    )


def seed_all(agent: BaseAlgorithm, seed: int, segment: int) -> None:
    """Make all random numbers a function of the segment, so that none of their states needs to be saved."""
    words = np.random.SeedSequence([seed, segment, 1]).generate_state(1)
    agent.set_random_seed(int(words[0]) % 2**31)


def save_state(agent: BaseAlgorithm, folder: Path) -> None:
    """Write to `folder` all that the agent's learning depends on, but for random numbers; nothing is pickled."""
    counters = {name: getattr(agent, name) for name in _COUNTERS if hasattr(agent, name)}
    save_with_torch({"parameters": agent.get_parameters(), "counters": counters}, folder / _STATE)
    replay = getattr(agent, "replay_buffer", None)
    if replay is not None:
        replay.save(folder / _REPLAY)


def load_state(agent: BaseAlgorithm, folder: Path) -> None:
    """Restore what `save_state` of an agent of the same settings has written.

    Raises:
        InputError: when the files are damaged.
    """
    try:
        state = torch.load(folder / _STATE, map_location=agent.device, weights_only=True)
        agent.set_parameters(state["parameters"], device=agent.device)
        for name, value in state["counters"].items():
            setattr(agent, name, value)
        replay = getattr(agent, "replay_buffer", None)
        if replay is not None:
            replay.load(folder / _REPLAY)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(f"the agent saved in {folder} is damaged ({error}); delete {folder.parent.parent}") from error
