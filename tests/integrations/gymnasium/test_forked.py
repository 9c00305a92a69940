"""Encoders in worker processes that were forked from one whose PyTorch has threads: without care, they wait for ever."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pretrainrl.device import resolve_device
from pretrainrl.errors import InputError

SCRIPT = """
import gymnasium, numpy as np, torch
from stable_baselines3.common.vec_env import SubprocVecEnv

torch.set_num_threads(2)
torch.randn(1000, 1000) @ torch.randn(1000, 1000)  # now there is a thread beside this one


class Frames(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        return np.full((4, 84, 84), 7, np.uint8), {}

    def step(self, action):
        return np.full((4, 84, 84), 9, np.uint8), 0.0, False, False, {}


def make():
    from pretrainrl.integrations.gymnasium import EncodeObservation

    return EncodeObservation(Frames(), "siammae", device="cpu")


def two_steps(env):
    first = env.reset()
    return (first[0] if isinstance(first, tuple) else first), env.step(np.zeros(2, int))[0]


if __name__ == "__main__":
    env = SubprocVecEnv([make] * 2, start_method="fork")  # here the workers are the first to import the package
    stable_baselines3 = two_steps(env)
    env.close()

    from pretrainrl import make_encoder

    encoder = make_encoder("siammae")
    expected = [encoder(np.full((2, 4, 84, 84), value, np.uint8)).numpy() for value in (7, 9)]
    env = gymnasium.vector.AsyncVectorEnv([make] * 2, context="fork")
    gymnasiums = two_steps(env)
    env.close()
    for found in (stable_baselines3, gymnasiums):
        for ours, theirs in zip(found, expected):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert torch.get_num_threads() == 2, "threads of this process are its own affair"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_workers_encode_after_a_fork() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_an_accelerator_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    for device in ("auto", "cuda"):
        with pytest.raises(InputError, match="forked from one that uses CUDA"):
            resolve_device(device)
