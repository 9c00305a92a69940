"""Files of agents: equal agents give equal bytes, in any process and at any time, and Stable-Baselines3 loads them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

SCRIPT = """
import sys, time
from pathlib import Path
from stable_baselines3 import PPO
from pretrainrl.integrations.sb3.agents import save_agent

agent = PPO("MlpPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu", tensorboard_log=None)
agent.learn(64)
time.sleep(2.1)  # dates in a zip count by two seconds
save_agent(agent, Path(sys.argv[1]))
save_agent(agent, Path(sys.argv[1]).with_name("again.zip"))
"""


@pytest.mark.slow
def test_equal_agents_give_equal_bytes(tmp_path: Path) -> None:
    files = [tmp_path / seed / "agent.zip" for seed in "12"]
    for file in files:
        file.parent.mkdir()
        env = {**os.environ, "PYTHONHASHSEED": file.parent.name, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", SCRIPT, str(file)], env=env, check=True)
        assert file.read_bytes() == file.with_name("again.zip").read_bytes()
        assert not file.stat().st_mode & 0o111
    assert files[0].read_bytes() == files[1].read_bytes()
    with zipfile.ZipFile(files[0]) as archive:
        assert b" at 0x" not in archive.read("data") and archive.testzip() is None
    agent = PPO.load(files[0], env=gym.make("CartPole-v1"), device="cpu")
    assert agent.num_timesteps == 64
    assert agent.learn(64, reset_num_timesteps=False).num_timesteps == 128
