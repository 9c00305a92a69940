"""Agents that learn a game while they are recorded, and all that their learning depends on."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.agent_cards import AgentPreset, find_agent_card
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3.agents import make_agent
from pretrainrl.integrations.sb3.recording.ram_agent import RamExtractor, VecRamObservation
from pretrainrl.networks.optimization import LOWER_RATE, require_finite
from pretrainrl.paths import save_with_torch

ROLLOUT = 128  # every segment is a multiple of so many steps of every game
_COUNTERS = (
    "num_timesteps",
    "_n_calls",
    "_n_updates",
    "_episode_num",
    "exploration_rate",
    "_current_progress_remaining",
    "_epoch",  # of behavior cloning
)
_STATE, _REPLAY = "agent.pt", "replay.npz"


def learner_preset(name: str, steps: int, n_envs: int) -> AgentPreset:
    """Return the settings with which an agent learns while it is recorded, for `steps` transitions in `n_envs` games."""
    card = find_agent_card(name, "collect")
    return card.preset(card.uses["collect"]).scaled(steps, n_envs)


def make_learner(name: str, env: VecEnv, preset: AgentPreset, seed: int, device: str = "auto") -> BaseAlgorithm:
    """Make the agent `name`, which sees single games through DQN's network, or reads the console's memory.

    Args:
        name: Name of an agent that `collect` can run.
        env: Environments in which it learns.
        preset: Settings of the agent.
        seed: Seed of the agent.
        device: Device of the agent.
    """
    card = find_agent_card(name, "collect")
    if card.observes == "frames":
        return make_agent(card, preset, env, seed=seed, device=device)
    kwargs = {"features_extractor_class": RamExtractor}
    return make_agent(card, preset, VecRamObservation(env), policy="MlpPolicy", policy_kwargs=kwargs, seed=seed, device=device)


def seed_all(agent: BaseAlgorithm, seed: int, segment: int) -> None:
    """Seed all random numbers by the segment, so that none of their states needs to be saved."""
    words = np.random.SeedSequence([seed, segment, 1]).generate_state(1)
    agent.set_random_seed(int(words[0]) % 2**31)


def save_state(agent: BaseAlgorithm, folder: Path) -> None:
    """Write all that an agent's learning depends on, but for random numbers, to a folder, without pickle.

    Raises:
        InputError: A weight is not finite.
    """
    counters = {name: getattr(agent, name) for name in _COUNTERS if hasattr(agent, name)}
    parameters = agent.get_parameters()
    require_finite(parameters, f"after {agent.num_timesteps:,} steps", LOWER_RATE)
    save_with_torch({"parameters": parameters, "counters": counters}, folder / _STATE)
    replay = getattr(agent, "replay_buffer", None)
    if replay is not None:
        replay.save(folder / _REPLAY)


def load_state(agent: BaseAlgorithm, folder: Path) -> None:
    """Restore what `save_state` of an agent of the same settings has written.

    Raises:
        InputError: The files are damaged.
    """
    try:
        state = torch.load(folder / _STATE, map_location=agent.device, weights_only=True)
        agent.set_parameters(state["parameters"], device=agent.device)
        for name, value in state["counters"].items():
            setattr(agent, name, value)
        replay = getattr(agent, "replay_buffer", None)
        if replay is not None:
            replay.load(folder / _REPLAY)
    except OSError as error:
        raise InputError(f"cannot read the agent saved in {folder}: {error.strerror or error}") from error
    except (RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise InputError(f"the agent saved in {folder} is damaged ({error}); delete {folder.parent.parent}") from error
