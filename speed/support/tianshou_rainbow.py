"""Tianshou's RainbowDQN on recorded steps, in an environment of its own: makes updates when told to, and says how fast.

Run by `speed/rainbow_pixels.py` and nothing else; it imports neither this package nor what it depends on.
Reads numbers of updates from its input, one a line, and answers each with updates a second.
"""

from __future__ import annotations

import sys
import time
import warnings
from importlib.metadata import version

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm import RainbowDQN
from tianshou.algorithm.modelfree.c51 import C51Policy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, PrioritizedVectorReplayBuffer
from tianshou.env.atari.atari_network import RainbowNet, ScaledObsInputActionReprNet
from tianshou.utils.torch_utils import policy_within_training_step, torch_train_mode


def make_algorithm(n_actions: int) -> RainbowDQN:
    """Noisy dueling C51 on the network of the Nature DQN, 3-step returns."""
    policy = C51Policy(
        model=ScaledObsInputActionReprNet(RainbowNet(c=4, h=84, w=84, action_shape=[n_actions])),
        action_space=gym.spaces.Discrete(n_actions),
        observation_space=gym.spaces.Box(0, 255, (4, 84, 84), np.uint8),
    )
    optimizer = AdamOptimizerFactory(lr=6.25e-5)
    return RainbowDQN(policy=policy, optim=optimizer, gamma=0.99, n_step_return_horizon=3, target_update_freq=500)


def fill_buffer(steps: dict[str, np.ndarray]) -> PrioritizedVectorReplayBuffer:
    """Put recorded steps into prioritised replay that keeps each frame once."""
    count = len(steps["actions"])
    made = PrioritizedVectorReplayBuffer(
        count, 1, alpha=0.5, beta=0.4, ignore_obs_next=True, save_only_last_obs=True, stack_num=4
    )
    for step in range(count):
        batch = Batch(
            obs=steps["before"][step][None],
            act=steps["actions"][step][None],
            rew=steps["rewards"][step][None],
            terminated=steps["dones"][step][None],
            truncated=np.array([False]),
            obs_next=steps["after"][step][None],
            info=Batch(),
        )
        made.add(batch, buffer_ids=[0])
    return made


def main(recorded: str, n_actions: str, threads: str) -> None:
    """Serve until the input ends."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(int(threads))
    with np.load(recorded) as steps:
        buffer = fill_buffer(dict(steps))
    algorithm = make_algorithm(int(n_actions))
    print(f"tianshou {version('tianshou')}, torch {torch.__version__.split('+')[0]}", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        with policy_within_training_step(algorithm.policy), torch_train_mode(algorithm):
            for _ in range(int(line)):
                algorithm.update(buffer=buffer, sample_size=32)
        print(int(line) / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
