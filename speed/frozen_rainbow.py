"""Environment steps per second of double Q-learning on a frozen ResNet-50, at two updates a step with batches of 32.

The obvious way is a features extractor that runs the frozen network in `forward`, in float32 and without gradients. Double
Q-learning then encodes three batches in every update: observations by the online network, next observations by the online and
by the target network. `VecEncodeObservation` encodes each frame once, when it is made, and Rainbow learns from feature maps,
through the same neck, or from their averages. The game and the schedule are the same; the three take turns.
"""

from __future__ import annotations

import statistics
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from gymnasium.spaces import Space
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from support.agents import steps_per_second
from support.report import parser, report
from torch import Tensor

from pretrainrl.encoders import make_backbone
from pretrainrl.integrations.sb3 import AtariVecEnv, Rainbow, VecEncodeObservation, neck_policy_kwargs
from pretrainrl.networks.necks import SpatialNeck

WARM_UP = 50  # environment steps with random actions, to fill the buffer with a batch
ENCODER = "random.resnet50"


class NaiveExtractor(BaseFeaturesExtractor):
    """What one writes first: the frozen network, and what is trained after it."""

    def __init__(self, observation_space: Space[Tensor], features_dim: int = 512) -> None:
        super().__init__(observation_space, features_dim)
        self.backbone = make_backbone("resnet50").eval().requires_grad_(False)
        self.neck = SpatialNeck((2048, 6, 6), features_dim)

    def forward(self, observations: Tensor) -> Tensor:
        """Train the neck on the frozen network's map."""
        with torch.no_grad():
            feature_map = self.backbone(observations)
        features: Tensor = self.neck(feature_map)
        return features


class DoubleDQN(DQN):
    """Stable-Baselines3's DQN, where the online network chooses the action that the target network values."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Make updates with batches from the replay buffer."""
        self.policy.set_training_mode(True)
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size)
            with torch.no_grad():
                best = self.q_net(batch.next_observations).argmax(dim=1, keepdim=True)
                following = self.q_net_target(batch.next_observations).gather(1, best)
                targets = batch.rewards + (1 - batch.dones) * self.gamma * following
            values = self.q_net(batch.observations).gather(1, batch.actions.long())
            loss = F.smooth_l1_loss(values, targets)
            self.policy.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()


def make_naive(game: str) -> DoubleDQN:
    return DoubleDQN(
        "CnnPolicy",
        AtariVecEnv(game, 1),
        policy_kwargs={"features_extractor_class": NaiveExtractor, "net_arch": []},
        buffer_size=1000,
        learning_starts=WARM_UP,
        train_freq=1,
        gradient_steps=2,
        exploration_initial_eps=0.0,  # so that acting costs its forward pass too
        exploration_final_eps=0.0,
        seed=0,
    )


def make_ours(game: str, features: Any) -> Rainbow:
    env = VecEncodeObservation(AtariVecEnv(game, 1), ENCODER, features=features)
    settings = {**Rainbow.atari_pb(), "buffer_size": 1000, "learning_starts": WARM_UP, "augment": False}
    return Rainbow(
        "MlpPolicy",
        env,
        policy_kwargs=neck_policy_kwargs(neck="spatial_mlp" if features == "map" else "mlp"),
        seed=0,
        **settings,
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--game", default="pong")
    arguments.add_argument("--turns", type=int, default=5)
    arguments.add_argument("--naive-steps", type=int, default=1, help="environment steps in one turn of the slow one")
    arguments.add_argument("--steps", type=int, default=60, help="environment steps in one turn of each fast one")
    args = arguments.parse_args()
    warnings.filterwarnings("ignore", message=".*GPU.*")

    agents = {"naive": make_naive(args.game), "map": make_ours(args.game, "map"), "pooled": make_ours(args.game, "pooled")}
    for agent in agents.values():
        agent.learn(WARM_UP)
        agent.learn(1, reset_num_timesteps=False)
    steps = {"naive": args.naive_steps, "map": args.steps, "pooled": args.steps}
    turns = [{name: steps_per_second(agent, steps[name]) for name, agent in agents.items()} for _ in range(args.turns)]
    speeds = {name: statistics.median(turn[name] for turn in turns) for name in agents}
    ratios = {name: statistics.median(turn[name] / turn["naive"] for turn in turns) for name in agents}

    env = agents["map"].get_env()
    assert isinstance(env, VecEncodeObservation)
    kind = str(env.encoder.dtype).removeprefix("torch.")
    rows = [
        ["double Q-learning, frozen ResNet-50, 2 updates a step, batch 32", "environment steps/s", "speed-up"],
        ["DQN, features extractor that runs the network, float32", f"{speeds['naive']:.3f}", "1x"],
        [f'Rainbow, `features="map"`, encoded in {kind}', f"{speeds['map']:.1f}", f"**{ratios['map']:.0f}x**"],
        [f'Rainbow, `features="pooled"`, encoded in {kind}', f"{speeds['pooled']:.1f}", f"**{ratios['pooled']:.0f}x**"],
    ]
    report("frozen_rainbow", rows, f"Medians of {args.turns} turns, encoder on {env.encoder.device}.", write=args.write)


if __name__ == "__main__":
    main()
