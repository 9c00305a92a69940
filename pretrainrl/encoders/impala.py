"""The residual network of IMPALA."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """ReLU, convolution, ReLU, convolution, and the input added; (B, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        residual: Tensor = self.conv2(self.conv1(x.relu()).relu())
        return x + residual


class Impala(nn.Module):
    """Three stages of convolution, max-pool and two residual blocks, with 16, 32 and 32 channels.

    Input (B, C, 84, 84) float in [0, 1]; output (B, 32 * width, 11, 11), after a ReLU.

    Args:
        in_channels: Number of stacked frames.
        width: Factor on the channels of every stage.

    Paper: IMPALA: Scalable Distributed Deep-RL with Importance Weighted Actor-Learner Architectures,
    https://arxiv.org/abs/1802.01561
    """

    def __init__(self, in_channels: int = 4, width: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (16 * width, 32 * width, 32 * width):
            layers += [
                nn.Conv2d(in_channels, channels, kernel_size=3, padding=1),
                nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
                ResidualBlock(channels),
                ResidualBlock(channels),
            ]
            in_channels = channels
        self.layers = nn.Sequential(*layers)
        self.feature_map_shape = (in_channels, 11, 11)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B, C, 84, 84) to (B, 32 * width, 11, 11)."""
        features: Tensor = self.layers(frames)
        return features.relu()
