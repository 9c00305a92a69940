"""A frozen encoder in a Stable-Baselines3 agent, in both ways.

1. As the features extractor of a `CnnPolicy`: frames go into the replay buffer and are encoded again at every update.
   Takes any algorithm as it is, and what is done to frames in between, such as augmentation.
2. In front of the agent: each frame is encoded once, the replay buffer holds features, and an `MlpPolicy` is enough.
   Much faster; choose it unless you need the first.

Either way the encoder's weights do not change and are not saved with the agent, only their name and digest are.

    python examples/sb3_frozen_encoder.py            # a few minutes on a CPU
    python examples/sb3_frozen_encoder.py --fast     # seconds, to see it run
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from sb3_contrib import QRDQN

from pretrainrl.integrations.sb3 import AtariVecEnv, VecEncodeObservation, policy_kwargs

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--encoder", default="siammae", help="a name of `pretrainrl encoders`, or a run folder")
parser.add_argument("--game", default="pong")
parser.add_argument("--fast", action="store_true", help="toy size")
args = parser.parse_args()

STEPS = 96 if args.fast else 10_000
SETTINGS = {"buffer_size": STEPS, "learning_starts": STEPS // 4, "train_freq": 1, "gradient_steps": 1, "seed": 0}

# Frames into the agent, the encoder inside it. The `mlp` neck after the encoder is trained.
agent = QRDQN("CnnPolicy", AtariVecEnv(args.game, n_envs=8), policy_kwargs=policy_kwargs(args.encoder), **SETTINGS)
began = time.monotonic()
agent.learn(STEPS, progress_bar=not args.fast)
print(f"encoder in the agent:       {STEPS / (time.monotonic() - began):6.0f} environment steps a second")

# The saved agent is loaded where the same encoder is found; its digest is checked.
with TemporaryDirectory() as folder:
    path = Path(folder) / "agent.zip"
    agent.save(path, exclude=["replay_buffer"])
    names = [name for name in agent.policy.state_dict() if "encoder" in name]
    print(f"saved agent:                {path.stat().st_size / 1e6:6.1f} MB, of the encoder: {names or 'nothing'}")
    QRDQN.load(path, buffer_size=1)

# Features into the agent, the encoder in front of it.
env = VecEncodeObservation(AtariVecEnv(args.game, n_envs=8), args.encoder)
print(f"observations are now        {env.observation_space}")
agent = QRDQN("MlpPolicy", env, policy_kwargs={"net_arch": [512]}, **SETTINGS)
began = time.monotonic()
agent.learn(STEPS, progress_bar=not args.fast)
print(f"encoder in front of it:     {STEPS / (time.monotonic() - began):6.0f} environment steps a second")
