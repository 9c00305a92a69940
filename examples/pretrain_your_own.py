"""Pre-train an encoder of your own: collect frames, choose an objective, use what comes out.

    python examples/pretrain_your_own.py             # about ten minutes on two CPU cores
    python examples/pretrain_your_own.py --fast      # seconds, to see it run
    python examples/pretrain_your_own.py --objective curl --games breakout qbert enduro

The same from the command line: `pretrainrl collect`, then `pretrainrl pretrain`. Started again with the same `--out`, the
run goes on where it stopped.
"""

import argparse
from pathlib import Path

import pretrainrl
from pretrainrl.integrations.minari import collect_dataset, dataset_id, local_ids
from pretrainrl.integrations.sb3 import AtariVecEnv

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--objective", default="siammae", choices=pretrainrl.list_objectives())
parser.add_argument("--games", nargs="+", default=["breakout", "space_invaders"])
parser.add_argument("--out", type=Path, default=Path("runs/mine"), help="run folder")
parser.add_argument("--fast", action="store_true", help="toy size")
args = parser.parse_args()

TRANSITIONS = 300 if args.fast else 20_000
KIND = "toy" if args.fast else "random"

# 1. Frames. Each game becomes a Minari dataset under MINARI_DATASETS_PATH, lossless, with its provenance inside.
datasets = [dataset_id(game, KIND) for game in args.games]
for game, name in zip(args.games, datasets, strict=True):
    if name not in local_ids():
        print(f"collecting {name}")
        collect_dataset(game, TRANSITIONS, kind=KIND)

# 2. Pre-training. Anything left out is the preset's: batch size, learning rate, backbone.
result = pretrainrl.pretrain(
    args.objective,
    datasets,
    name=f"{args.objective}.mine",
    steps=4 if args.fast else 2_000,
    batch_size=8 if args.fast else None,
    out=args.out,
    resume=args.out.exists(),
)

# 3. The run folder is the encoder: weights, card, digest. Give it a name for this process, or use the path.
card = pretrainrl.register_encoder(result.folder)
encoder = pretrainrl.make_encoder(f"{args.objective}.mine")
print(f"{card.name}: {card.summary}")
print(f"weights: {card.weights.bytes / 1000:.0f} kB, sha256 {encoder.sha256[:12]}..., in {result.folder}")

# 4. Frames in, features out.
env = AtariVecEnv(args.games[0], n_envs=2)
frames = env.reset()
print(
    f"frames {frames.shape} {frames.dtype} -> map {tuple(encoder.feature_map(frames).shape)} -> {tuple(encoder(frames).shape)}"
)
env.close()
