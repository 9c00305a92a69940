"""Register an encoder of your own: any network, any weights, under a name that everything here understands.

A registered encoder is a card and a safetensors file. The card names the network by its import path, so the network stays
in your code. To register at installation instead of at run time, a package declares an entry point of the group
`pretrainrl.encoders` that gives the card.

    python examples/register_your_own_encoder.py [--fast]
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import pretrainrl
from pretrainrl.cards import BACKBONES, BackboneCard, EncoderCard, Paper, Weights
from pretrainrl.integrations.sb3 import AtariVecEnv, VecEncodeObservation
from pretrainrl.weights import file_sha256


class TinyConv(nn.Module):
    """A backbone maps (B, 4, 84, 84) floats in [0, 1] to a feature map, and says what shape that has.

    Args:
        channels: of the feature map. Arguments come from the card's `backbone_options`.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(4, 16, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(16, channels, kernel_size=4, stride=2),
            nn.ReLU(),
        )
        self.feature_map_shape = (channels, 9, 9)

    def forward(self, frames: Tensor) -> Tensor:
        """Map (B, 4, 84, 84) to (B, channels, 9, 9)."""
        return self.layers(frames)


def describe(weights: Path) -> EncoderCard:
    """The card of `TinyConv` with the weights in `weights`. Fields that are missing or mistyped are refused."""
    return EncoderCard(
        name="mine.tinyconv",
        default=True,  # so that "mine" is enough
        summary="Two convolutions with the weights they started from; an example, good for nothing",
        objective="mine",
        backbone="tinyconv",  # a registered name: a card is data, and cannot name code
        backbone_options={"channels": 24},
        features="flat",
        feature_map_shape=(24, 9, 9),
        license="MIT",
        weights=Weights(sources=(weights.name,), sha256=file_sha256(weights), bytes=weights.stat().st_size),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("my_encoder"), help="folder for card and weights")
    parser.add_argument("--fast", action="store_true", help="toy size")
    args = parser.parse_args()

    # The weights: here those of a fresh network, in your case what your own training left.
    args.out.mkdir(parents=True, exist_ok=True)
    weights = args.out / "encoder.safetensors"
    torch.manual_seed(0)
    save_file(TinyConv(channels=24).state_dict(), weights)

    # A card names code by a registered name only. This file's folder is on the import path; a package of yours would register
    # the backbone for every process by an entry point of the group "pretrainrl.backbones".
    paper = Paper(title="None", url="https://example.org")
    target = f"{Path(__file__).stem}:TinyConv"  # package.module:Class
    BACKBONES.register("tinyconv", BackboneCard(name="tinyconv", target=target, summary="Two convolutions", paper=paper))

    # Beside them the card; the folder is then an encoder that can be moved or shared as it is.
    describe(weights).write(args.out / EncoderCard.FILE)
    card = pretrainrl.register_encoder(args.out)
    print(f"registered: {', '.join(pretrainrl.list_encoders('mine*'))}")

    encoder = pretrainrl.make_encoder("mine")  # reads the card, verifies the digest, loads, freezes
    pretrainrl.check_encoder(encoder)  # the contract: shapes, range checks, frozen in every sense
    print(f"keeps the contract: {encoder.extra_repr()}")

    env = VecEncodeObservation(AtariVecEnv("pong", n_envs=8), card.name)
    env.reset()
    for _ in range(10 if args.fast else 500):
        features, *_ = env.step([env.action_space.sample() for _ in range(env.num_envs)])
    print(f"features of eight games of Pong: {features.shape} {features.dtype}")


if __name__ == "__main__":
    main()
