"""Measurement of one encoder with all probes on the same observations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from pretrainrl.device import dtype_name
from pretrainrl.encoders import Encoder
from pretrainrl.errors import InputError
from pretrainrl.probing.probes import (
    LinearProbe,
    balanced_accuracy,
    dormant_ratio,
    knn_accuracy,
    principal_components,
    rankme,
    spectrum,
)
from pretrainrl.probing.samples import Encoded, Samples, Split, encode, energy_maps, evenly, ram_classes, split_episodes

SPECTRUM_SAMPLES = 1024  # observations of all games together, evenly spread
KNN_SAMPLES = 1024  # observations of each side of each game's split, evenly spread
SHOWN = 3  # frames of each game whose energy is shown
ALIKE = 1e-3  # features whose deviation is a smaller share of their mean absolute value count as collapsed


@dataclass(frozen=True)
class GameProbe:
    """Measurements of an encoder's features on one game.

    Attributes:
        game: Name of the game, as in dataset ids.
        train: Number of observations that the linear probes were fitted on.
        test: Number of observations that the linear probes were evaluated on.
        metrics: Metrics of this game, named as in `Probe`.
        ram: Number, balanced accuracy and chance level of each byte that was probed.
        notes: Probes that were left out, with the reason of each.
    """

    game: str
    train: int
    test: int
    metrics: dict[str, float]
    ram: tuple[tuple[int, float, float], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Views:
    """Data of the page's figures, on the CPU.

    Attributes:
        singular_values: Singular values of the features in descending order, (R,) float64.
        points: Two principal components of the features of all games, (M, 2) float64.
        point_games: Index of each point's game in `Probe.games`, (M,) int64.
        frames: Newest frames of three observations of each game, (n, 84, 84) uint8.
        energy: Energy of the feature maps of these observations, (n, H, W) float32.
    """

    singular_values: Tensor
    points: Tensor
    point_games: Tensor
    frames: Tensor
    energy: Tensor


@dataclass(frozen=True)
class Probe:
    """Measurements of one encoder.

    Attributes:
        encoder: Name of the encoder.
        sha256: Digest of the encoder's weights.
        dtype: Dtype in which it computed the features, `float32` or `bfloat16`.
        seed: Seed of the split.
        metrics: Metrics by the names that a card's `metrics` may hold. Means over games: `ram_balanced_accuracy` (itself
            a mean over a game's bytes) and `ram_chance`, `action_accuracy` and `action_chance`,
            `reward_balanced_accuracy` and `reward_chance`. Measured on all games together: `rankme`, `dormant_ratio`,
            `feature_spread`, and with several games `knn_game_accuracy` and `knn_game_chance`.
        games: Measurements of each game.
        notes: Warnings about the encoder.
        views: Data of the page's figures.
    """

    encoder: str
    sha256: str
    dtype: str
    seed: int
    metrics: dict[str, float]
    games: tuple[GameProbe, ...]
    notes: tuple[str, ...]
    views: Views = field(repr=False, compare=False)


def probe(
    encoder: Encoder, samples: Sequence[Samples], *, seed: int = 0, progress: Callable[[int], None] | None = None
) -> Probe:
    """Measure the features of a frozen encoder, with linear probes and with measures that need no labels.

    Equal arguments give equal numbers on the same machine.

    Args:
        encoder: Encoder made by `pretrainrl.make_encoder`.
        samples: Samples of each game, from `take_samples`.
        seed: Seed of the split by episodes.
        progress: Function that is called with the number of newly encoded observations.

    Raises:
        InputError: When there are no samples, a game occurs twice or has too few samples, or the features are not finite.
    """
    names = [item.game for item in samples]
    if not names or len(set(names)) < len(names):
        raise InputError(f"a probe needs samples of at least one game, each game once; got {', '.join(names) or 'none'}")
    splits = [split_episodes(item.episodes, item.times, seed=seed) for item in samples]
    encoded = [encode(encoder, item, progress) for item in samples]
    if not all(torch.isfinite(item.features).all() for item in encoded):
        raise InputError(f"the features of {encoder.name} are not finite; its weights are damaged, or its training diverged")
    games = tuple(map(_probe_game, samples, encoded, splits))
    views = _views(encoder, samples, encoded)
    spread = _spread(torch.cat([item.features for item in encoded]))
    metrics = {
        **_means([game.metrics for game in games]),
        "rankme": rankme(views.singular_values),
        "dormant_ratio": dormant_ratio(torch.stack([item.activity for item in encoded]).mean(0)),
        "feature_spread": spread,
        **_knn(encoded, splits),
    }
    return Probe(encoder.name, encoder.sha256, dtype_name(encoder.dtype), seed, metrics, games, _warnings(spread), views)


def _probe_game(samples: Samples, encoded: Encoded, split: Split) -> GameProbe:
    """Fit and evaluate the linear probes of one game."""
    train, test = split.train, split.test
    linear = LinearProbe(encoded.features[train], encoded.features[test])

    def classify(labels: Tensor, balanced: bool) -> Tensor:
        return linear.classify(labels[train].to(encoded.features.device), balanced=balanced).cpu()

    metrics: dict[str, float] = {}
    notes: list[str] = []
    ram = _probe_ram(samples.ram, split, classify) if samples.ram is not None else ()
    if ram:
        metrics["ram_balanced_accuracy"] = fmean(accuracy for _, accuracy, _ in ram)
        metrics["ram_chance"] = fmean(chance for _, _, chance in ram)
    else:
        unrecorded = "the data hold no RAM; collect with --ram"
        notes.append(f"no RAM probe: {unrecorded if samples.ram is None else 'no byte varies enough'}")
    if _several(samples.actions, split):
        hits = classify(samples.actions[:, None], False)[:, 0] == samples.actions[test]
        commonest = samples.actions[train].mode().values
        metrics["action_accuracy"] = float(hits.double().mean())
        metrics["action_chance"] = float((samples.actions[test] == commonest).double().mean())
    else:
        notes.append("no action probe: on one side of the split there is only one action")
    signs = samples.reward_signs[:, None] + 1
    if _several(signs, split):
        accuracy, chance = balanced_accuracy(classify(signs, True), signs[test])
        metrics |= {"reward_balanced_accuracy": float(accuracy), "reward_chance": float(chance)}
    else:
        notes.append("no reward probe: on one side of the split all rewards have the same sign")
    return GameProbe(samples.game, len(train), len(test), metrics, ram, tuple(notes))


def _probe_ram(ram: Tensor, split: Split, classify: Callable[[Tensor, bool], Tensor]) -> tuple[tuple[int, float, float], ...]:
    """Return number, balanced accuracy and chance level of each byte that varies on both sides."""
    labels, probed = ram_classes(ram, split.train)
    if not len(probed):
        return ()
    accuracy, chance = balanced_accuracy(classify(labels, True), labels[split.test])
    measured = zip(probed.tolist(), accuracy.tolist(), chance.tolist(), strict=True)
    return tuple(byte for byte in measured if byte[2] < 1)  # with one class alone any answer is right


def _several(labels: Tensor, split: Split) -> bool:
    """Return whether there are several classes on both sides."""
    return all(bool((labels[side] != labels[side][0]).any()) for side in (split.train, split.test))


def _means(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the games that have it."""
    names = dict.fromkeys(name for each in metrics for name in each)
    return {name: fmean(each[name] for each in metrics if name in each) for name in names}


def _spread(features: Tensor) -> float:
    """Return the deviation of features over observations, relative to their mean absolute value."""
    return float(features.std(0).mean() / features.abs().mean().clamp(min=1e-12))


def _warnings(spread: float) -> tuple[str, ...]:
    if spread >= ALIKE:
        return ()
    return (f"features have collapsed: over observations they vary by {spread:.1g} of their mean absolute value",)


def _knn(encoded: Sequence[Encoded], splits: Sequence[Split]) -> dict[str, float]:
    """Classify the game by nearest neighbors; with one game there is nothing to measure."""
    if len(encoded) < 2:
        return {}

    def side(sides: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        chosen = [indices[evenly(len(indices), KNN_SAMPLES)] for indices in sides]
        labels = torch.cat([torch.full((len(indices),), game) for game, indices in enumerate(chosen)])
        return torch.cat([item.features[indices] for item, indices in zip(encoded, chosen, strict=True)]).cpu(), labels

    train, labels = side([split.train for split in splits])
    test, test_labels = side([split.test for split in splits])
    chance = float(test_labels.bincount().max()) / len(test_labels)
    return {"knn_game_accuracy": knn_accuracy(train, labels, test, test_labels), "knn_game_chance": chance}


def _views(encoder: Encoder, samples: Sequence[Samples], encoded: Sequence[Encoded]) -> Views:
    """Compute spectrum, principal components and energy from evenly spread observations."""
    games = torch.cat([torch.full((len(item),), game) for game, item in enumerate(samples)])
    chosen = evenly(len(games), SPECTRUM_SAMPLES)
    features = torch.cat([item.features for item in encoded])[chosen].cpu()
    few = [item.observations[(torch.arange(SHOWN) * 2 + 1) * len(item) // (2 * SHOWN)] for item in samples]
    return Views(
        spectrum(features),
        principal_components(features),
        games[chosen],
        torch.cat(few)[:, -1],
        energy_maps(encoder, torch.cat(few)),
    )
