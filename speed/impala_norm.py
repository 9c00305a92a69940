"""Training speed of the `impala` backbone without a norm, as it is, and with a GroupNorm after every convolution.

Forward and backward of 64 observations in bfloat16 autocast, channels-last, as the pre-training loop runs it; the networks
take turns.
"""

from __future__ import annotations

import statistics
import time

import torch
from support.report import parser, report
from torch import Tensor, nn

from pretrainrl.encoders import make_backbone

BATCH = 64


def with_norm(network: nn.Module, groups: int) -> nn.Module:
    """Put a GroupNorm behind every convolution of `network`."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Conv2d):
            setattr(network, name, nn.Sequential(child, nn.GroupNorm(groups, child.out_channels)))
        else:
            with_norm(child, groups)
    return network


def seconds(network: nn.Module, frames: Tensor) -> float:
    """Time one training step without the optimiser."""
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        features = network(frames)
    features.float().square().mean().backward()
    network.zero_grad()
    return time.perf_counter() - began


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--turns", type=int, default=9)
    args = arguments.parse_args()
    networks = {
        "none": make_backbone("impala"),
        "GroupNorm, 1 group": with_norm(make_backbone("impala"), 1),
        "GroupNorm, 4 groups": with_norm(make_backbone("impala"), 4),
    }
    frames = torch.rand(BATCH, 4, 84, 84).to(memory_format=torch.channels_last)
    for network in networks.values():
        seconds(network.to(memory_format=torch.channels_last), frames)
    turns = [{name: seconds(network, frames) for name, network in networks.items()} for _ in range(args.turns)]
    rows = [["norm in `impala`", "observations/s", "speed"]]
    for name in networks:
        speed = BATCH / statistics.median(turn[name] for turn in turns)
        ratio = statistics.median(turn["none"] / turn[name] for turn in turns)
        rows.append([name, f"{speed:,.0f}", f"**{ratio:.2f}x**"])
    report("impala_norm", rows, f"Medians of {args.turns} turns of forward and backward, batch {BATCH}.", write=args.write)


if __name__ == "__main__":
    main()
