"""Statistics of an encoder's features in a file that its card names, for agents that standardize features."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pretrainrl.cards import EncoderCard, Weights
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import WindowSpec
from pretrainrl.encoders import Encoder, make_encoder
from pretrainrl.encoders.observation_spaces import FeatureKind
from pretrainrl.errors import InputError
from pretrainrl.networks.standardize import MIN_OBSERVATIONS, Moments
from pretrainrl.paths import atomic_path, resolve_path
from pretrainrl.weights import fetch, file_sha256, parse_metadata, parse_tensors, save_tensors

FILE = "standardization.safetensors"
MOST_OBSERVATIONS = 10_000  # more change the statistics little, and a large encoder takes seconds for each thousand
_BATCH = 256
_ENCODER = "encoder_sha256"  # of the file's metadata


def write_standardization(card: str | Path, dataset: str) -> EncoderCard:
    """Measure an encoder's features on a dataset, write mean and standard deviation of each, and let its card name the file.

    The file, `standardization.safetensors`, lies beside the card. With it, `fit_standardization(agent, "card")` needs no
    observations.

    Args:
        card: Path of a card file or of a run folder of `pretrain`; the card is written anew.
        dataset: Minari id of the dataset, of which up to 10,000 observations are read, evenly spaced.

    Returns:
        The card, which names the file.

    Raises:
        CardError: When the card cannot be read.
        WeightsError: When the encoder's weights cannot be found, are damaged, or do not fit.
        DatasetError: When the dataset is missing or damaged.
        InputError: When it has fewer than 32 observations, features are not finite, or the folder cannot be written to.
    """
    from pretrainrl.integrations.minari import cache_datasets

    path = resolve_path(card)
    path = path / EncoderCard.FILE if path.is_dir() else path
    encoder = make_encoder(path)
    sampler = WindowSampler(cache_datasets([dataset]), WindowSpec(steps=1, stack=encoder.observation_space.shape[0]), 1)
    if len(sampler) < MIN_OBSERVATIONS:
        raise InputError(f"statistics need at least {MIN_OBSERVATIONS} observations, and {dataset} has {len(sampler)}")
    flat, pooled = Moments(encoder.feature_map_shape), Moments((encoder.feature_map_shape[0],))
    numbers = torch.linspace(0, len(sampler) - 1, min(len(sampler), MOST_OBSERVATIONS), dtype=torch.float64).round().long()
    for batch in torch.split(numbers, _BATCH):
        maps = encoder.feature_map(sampler.read(batch).observation())
        flat.add(maps)
        pooled.add(maps.mean((2, 3)))
    tensors = {
        f"{kind}.{name}": tensor.float().flatten().contiguous()
        for kind, moments in (("flat", flat), ("pooled", pooled))
        for name, tensor in (("mean", moments.mean), ("std", moments.std))
    }
    file = path.with_name(FILE)
    with atomic_path(file) as temporary:
        save_tensors(tensors, temporary, {_ENCODER: encoder.sha256, "dataset": dataset, "observations": str(len(numbers))})
    statistics = Weights(sources=(file.name,), sha256=file_sha256(file), bytes=file.stat().st_size)
    made = encoder.card.model_copy(
        update={"standardization": statistics, "weights": _relative(encoder.card.weights, path.parent)}
    )
    made.write(path)
    return EncoderCard.read(path)


def read_statistics(encoder: Encoder, kind: FeatureKind) -> tuple[Tensor, Tensor]:
    """Read the statistics that an encoder's card names.

    Args:
        encoder: Encoder of the features.
        kind: Kind of features; maps have the statistics of flat features.

    Returns:
        Mean and standard deviation of each feature, (D,) float32 each; those of maps in (C, H, W) order.

    Raises:
        InputError: When the card names no statistics, or they are of other weights or of another kind of features.
        WeightsError: When the file cannot be found or is damaged.
    """
    card = encoder.card
    if card.standardization is None:
        raise InputError(
            f"the card of {card.name} holds no statistics of features; give fit_standardization observations or a dataset, or "
            "write them into a card of yours with write_standardization(card, dataset)"
        )
    file = fetch(card.standardization.sources, card.standardization.sha256, card.standardization.bytes)
    path, tensors, name = file.path, parse_tensors(file), "pooled" if kind == "pooled" else "flat"
    measured_of = parse_metadata(file).get(_ENCODER)
    if measured_of != encoder.sha256:
        raise InputError(
            f"the statistics in {path} are of weights with sha256 {str(measured_of)[:12]}..., but {card.name} has "
            f"{encoder.sha256[:12]}... here; measure them anew with write_standardization"
        )
    if not {f"{name}.mean", f"{name}.std"} <= tensors.keys():
        raise InputError(f"{path} has no statistics of {name} features; it holds {', '.join(sorted(tensors))}")
    return tensors[f"{name}.mean"], tensors[f"{name}.std"]


def _relative(weights: Weights, folder: Path) -> Weights:
    """Return the weights with those sources relative again that lie in the card's folder."""
    here = folder.resolve()
    sources = tuple(Path(each).name if ":" not in each and Path(each).parent == here else each for each in weights.sources)
    return weights.model_copy(update={"sources": sources})
