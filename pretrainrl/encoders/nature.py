"""The three convolutions of the Nature DQN."""

from __future__ import annotations

from torch import Tensor, nn


class Nature(nn.Module):
    """Convolutions of Stable-Baselines3's `NatureCNN`, without its linear layer.

    Input (B, C, 84, 84) float in [0, 1]; output (B, 64, 7, 7), after a ReLU.

    Args:
        in_channels: Number of stacked frames.

    Paper: Human-level control through deep reinforcement learning, https://www.nature.com/articles/nature14236
    """

    feature_map_shape = (64, 7, 7)

    def __init__(self, in_channels: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B, C, 84, 84) to (B, 64, 7, 7)."""
        features: Tensor = self.layers(frames)
        return features
