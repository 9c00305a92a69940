"""Environment steps per second of QR-DQN on a frozen ResNet-50, at two updates a step with batches of 32.

The obvious way is a features extractor that runs the frozen network in `forward`, in float32 and without gradients: every
update encodes its 32 observations and 32 next observations again. `VecEncodeObservation` encodes each frame once, when it is
made. Heads, game and settings are the same; the two take turns.
"""

from __future__ import annotations

import statistics
import warnings

import torch
from gymnasium.spaces import Space
from sb3_contrib import QRDQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from support.agents import steps_per_second
from support.report import parser, report
from torch import Tensor

from pretrainrl.encoders import make_backbone
from pretrainrl.integrations.sb3 import AtariVecEnv, VecEncodeObservation

WARM_UP = 40  # environment steps with random actions, to fill the buffer with a batch


class NaiveExtractor(BaseFeaturesExtractor):
    """What one writes first."""

    def __init__(self, observation_space: Space[Tensor], features_dim: int = 2048) -> None:
        super().__init__(observation_space, features_dim)
        self.backbone = make_backbone("resnet50").eval().requires_grad_(False)

    def forward(self, observations: Tensor) -> Tensor:
        """Average the frozen network's feature map."""
        with torch.no_grad():
            features: Tensor = self.backbone(observations).mean((2, 3))
        return features


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--game", default="pong")
    arguments.add_argument("--turns", type=int, default=3)
    arguments.add_argument("--naive-steps", type=int, default=1, help="environment steps in one turn of the slow one")
    arguments.add_argument("--steps", type=int, default=60, help="environment steps in one turn of the fast one")
    args = arguments.parse_args()
    warnings.filterwarnings("ignore", message=".*GPU.*")

    settings = {"buffer_size": 1000, "learning_starts": WARM_UP, "batch_size": 32, "train_freq": 1, "gradient_steps": 2}
    greedy = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}  # so that acting costs its forward pass too
    net_arch = [64, 64]
    naive_kwargs = {"features_extractor_class": NaiveExtractor, "net_arch": net_arch}
    naive = QRDQN("CnnPolicy", AtariVecEnv(args.game, 1), policy_kwargs=naive_kwargs, seed=0, **settings, **greedy)
    env = VecEncodeObservation(AtariVecEnv(args.game, 1), "random.resnet50")
    ours = QRDQN("MlpPolicy", env, policy_kwargs={"net_arch": net_arch}, seed=0, **settings, **greedy)
    for agent in (naive, ours):
        agent.learn(WARM_UP)
        agent.learn(1, reset_num_timesteps=False)
    turns = [(steps_per_second(naive, args.naive_steps), steps_per_second(ours, args.steps)) for _ in range(args.turns)]
    slow, fast = (statistics.median(column) for column in zip(*turns, strict=True))
    ratio = statistics.median(second / first for first, second in turns)

    kind = str(env.encoder.dtype).removeprefix("torch.")
    rows = [
        ["QR-DQN, frozen ResNet-50, 2 updates a step, batch 32", "environment steps/s", "speed-up"],
        ["features extractor that runs the network, float32", f"{slow:.3f}", "1x"],
        [f"`VecEncodeObservation`, {kind}", f"{fast:.1f}", f"**{ratio:.0f}x**"],
    ]
    report("frozen_qrdqn", rows, f"Medians of {args.turns} turns, encoder on {env.encoder.device}.", write=args.write)


if __name__ == "__main__":
    main()
