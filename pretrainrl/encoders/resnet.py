"""The ResNet-50 of Atari-PB: no max-pool, and GroupNorm without weights."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck


class GroupNorm4(nn.GroupNorm):
    """GroupNorm of 4 groups without weights."""

    def __init__(self, channels: int) -> None:
        super().__init__(4, channels, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        # PyTorch's kernel for channels-last tensors loses digits where a group has few channels: up to 1e-4 of the map.
        narrow = self.num_channels < 64
        return super().forward(features.contiguous() if narrow else features)


class ResNet50(nn.Module):
    """ResNet-50 for 84x84 frames.

    A 7x7 convolution of stride 2 without the max-pool after it, then bottlenecks [3, 4, 6, 3] with the stride on the 3x3
    convolution. Every norm is a GroupNorm of 4 groups without weights; no convolution has a bias; there is no global pool.
    Input (B, C, 84, 84) float in [0, 1]; output (B, 2048 * width, 6, 6), after a ReLU.

    Args:
        in_channels: Number of stacked frames.
        width: Factor on the channels of every stage but the first convolution, which keeps 64; 1/16 is the smallest.

    Paper: Investigating Pre-Training Objectives for Generalization in Vision-Based Reinforcement Learning,
    https://arxiv.org/abs/2406.06037
    """

    def __init__(self, in_channels: int = 4, width: float = 1.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False),
            GroupNorm4(64),
            nn.ReLU(inplace=True),
        )
        channels = 64
        stages = []
        for planes, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            stages.append(_stage(channels, round(planes * width), blocks, stride))
            channels = round(planes * width) * Bottleneck.expansion
        self.stages = nn.Sequential(*stages)
        self.feature_map_shape = (channels, 6, 6)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B, C, 84, 84) to (B, 2048 * width, 6, 6)."""
        features: Tensor = self.stages(self.stem(frames))
        return features


def _stage(in_channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    """Build `blocks` bottlenecks; the first has the stride and a projection as its shortcut."""
    out_channels = planes * Bottleneck.expansion
    shortcut = nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False), GroupNorm4(out_channels)
    )
    first = Bottleneck(in_channels, planes, stride, shortcut, norm_layer=GroupNorm4)
    rest = [Bottleneck(out_channels, planes, norm_layer=GroupNorm4) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)
