"""An objective of another package goes the whole way: an entry point names its card, it is trained, and makes an encoder."""

import os
import subprocess
import sys

import torch

import pretrainrl
from pretrainrl.integrations.minari import collect_dataset

MODULE = '''
from pathlib import Path

import torch.nn.functional as F
from torch import nn

from pretrainrl.cards import ObjectiveCard
from pretrainrl.data.windows import WindowSpec
from pretrainrl.objectives import Objective


class NextReward(Objective):
    """Predict whether a reward follows the observation."""

    window = WindowSpec(steps=1)

    def __init__(self, backbone, num_games, *, scale=1.0, augmentation=True):
        super().__init__(backbone, num_games, augmentation=augmentation)
        channels, height, width = backbone.feature_map_shape
        self.head = nn.Linear(channels * height * width, 1)
        self.scale = scale

    def loss(self, batch):
        logits = self.head(self.backbone(self.view(batch.observation())).flatten(1)).squeeze(1)
        return self.scale * F.binary_cross_entropy_with_logits(logits, (batch.rewards[:, 0] != 0).float()), {}


def card():
    return ObjectiveCard.read(Path(__file__).with_name("next_reward.toml"))
'''

CARD = """
name = "next_reward"
target = "another_package:NextReward"
data = "trajectory"
summary = "Whether a reward follows."

[paper]
title = "None"
url = "https://example.org"

[presets.nano]
backbone = "nature"
model = {scale = 0.5}
training = {batch_size = 4, steps = 2, lr = 1e-3}
"""


def test_objective_of_another_package_makes_an_encoder(tmp_path):
    site = tmp_path / "site"
    files = {
        "another_package.py": MODULE,
        "next_reward.toml": CARD,
        "another_package-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: another-package\nVersion: 1.0\n",
        "another_package-1.0.dist-info/entry_points.txt": "[pretrainrl.objectives]\nnext_reward = another_package:card\n",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text, encoding="utf-8")
    dataset = collect_dataset("breakout", steps=64, n_envs=2, kind="foreign").id
    command = [sys.executable, "-m", "pretrainrl", "pretrain", "next_reward", "--dataset", dataset, "--out", tmp_path / "run"]
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    encoder = pretrainrl.make_encoder(tmp_path / "run")
    assert encoder.card.objective == "next_reward"
    assert encoder(torch.zeros(1, 4, 84, 84, dtype=torch.uint8)).shape == (1, encoder.features_dim)
