"""Read a dataset of frames with plain Minari: nothing of pretrainrl is needed to use what it publishes.

    python examples/load_dataset_with_minari.py [--fast]

If the dataset is not there, it is collected first, with `pretrainrl collect`, which needs pretrainrl.
"""

import argparse
import subprocess
import sys

import minari
import numpy as np

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--game", default="breakout", help="in one lower-case word, e.g. mspacman")
parser.add_argument("--fast", action="store_true", help="toy size")
args = parser.parse_args()

KIND, STEPS = ("toy", 600) if args.fast else ("random", 5_000)
DATASET = f"pretrainrl/atari/{args.game}-{KIND}-v0"

if DATASET not in minari.list_local_datasets():
    command = [sys.executable, "-m", "pretrainrl", "collect", args.game, "--steps", str(STEPS), "--kind", KIND]
    subprocess.run(command, check=True)

dataset = minari.load_dataset(DATASET)
print(f"{DATASET}: {dataset.total_episodes} episodes, {dataset.total_steps} steps, {dataset.storage.get_size():.1f} MB")
for key in ("algorithm_name", "rom_md5", "sticky_actions", "ale_py_version"):
    print(f"  {key}: {dataset.storage.metadata[key]}")

# An episode: each observation is one 84x84 frame, stored once; the last one is where the episode ended.
episode = dataset[0]
frames = episode.observations
print(f"episode {episode.id}: {len(episode.actions)} steps, return {episode.rewards.sum():g}")
print(f"frames: {frames.shape} {frames.dtype}")

# What an encoder reads are stacks of four frames, the oldest first, with zeros before the start.
padded = np.concatenate([np.zeros((3, 84, 84), np.uint8), frames])
stacks = np.lib.stride_tricks.sliding_window_view(padded, 4, axis=0).transpose(0, 3, 1, 2)
print(f"as stacks: {stacks.shape}")

# The game that it came from, as a Gymnasium environment.
env = dataset.recover_environment()
observation, _ = env.reset(seed=0)
print(f"environment: {env.spec.id}, observations {observation.shape} {observation.dtype}, actions {env.action_space}")
env.close()
