"""All probes of one encoder on the same observations."""

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

SPECTRUM_SAMPLES = 1024  # of all games together, evenly spread
KNN_SAMPLES = 1024  # of each game's two sides, evenly spread
SHOWN = 3  # frames of each game whose energy is shown
ALIKE = 1e-3  # of their mean absolute value: features that deviate less over observations count as collapsed


@dataclass(frozen=True)
class GameProbe:
    """What an encoder's features tell of one game.

    Attributes:
        game: slug.
        train: observations that the linear probes were fitted on.
        test: observations that they were judged by.
        metrics: as in `Probe`, of this game alone.
        ram: for each byte probed: its number, balanced accuracy and chance.
        notes: what was left out, and why.
    """

    game: str
    train: int
    test: int
    metrics: dict[str, float]
    ram: tuple[tuple[int, float, float], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Views:
    """What the page shows beside numbers; on the CPU.

    Attributes:
        singular_values: (R,) float64, falling.
        points: (M, 2) float64, principal components of observations of all games.
        point_games: (M,) int64, index of each in `Probe.games`.
        frames: (n, 84, 84) uint8, the newest of some observations, three of each game.
        energy: (n, H, W) float32, of their feature maps.
    """

    singular_values: Tensor
    points: Tensor
    point_games: Tensor
    frames: Tensor
    energy: Tensor


@dataclass(frozen=True)
class Probe:
    """The measurements of one encoder.

    Attributes:
        encoder: its name.
        sha256: of its weights.
        dtype: Type in which it computed the features, `float32` or `bfloat16`.
        seed: of the split.
        metrics: by names that a card's `metrics` may hold. Of the linear probes the mean over games:
            `ram_balanced_accuracy` (mean over a game's bytes) and `ram_chance`, `action_accuracy` and `action_chance`,
            `reward_balanced_accuracy` and `reward_chance`; of all games together: `rankme`, `dormant_ratio`,
            `feature_spread`, and with several games `knn_game_accuracy` and `knn_game_chance`.
        games: one for each.
        notes: warnings on the encoder.
        views: for the page.
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
    """Measure what the features of a frozen encoder tell, by linear probes and by measures without labels.

    Equal arguments give equal numbers on the same machine.

    Args:
        encoder: made by `pretrainrl.make_encoder`.
        samples: one for each game, from `take_samples`.
        seed: of the split by episodes.
        progress: called with the number of observations newly encoded.

    Raises:
        InputError: when there are no samples, a game comes twice, has too few of them, or the features are not finite.
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
    """Fit and judge the linear probes of one game."""
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
    """Number, balanced accuracy and chance of each byte that varies on both sides."""
    labels, probed = ram_classes(ram, split.train)
    if not len(probed):
        return ()
    accuracy, chance = balanced_accuracy(classify(labels, True), labels[split.test])
    measured = zip(probed.tolist(), accuracy.tolist(), chance.tolist(), strict=True)
    return tuple(byte for byte in measured if byte[2] < 1)  # with one class alone any answer is right


def _several(labels: Tensor, split: Split) -> bool:
    """Whether there are several classes on both sides."""
    return all(bool((labels[side] != labels[side][0]).any()) for side in (split.train, split.test))


def _means(metrics: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each metric over the games that have it."""
    names = dict.fromkeys(name for each in metrics for name in each)
    return {name: fmean(each[name] for each in metrics if name in each) for name in names}


def _spread(features: Tensor) -> float:
    """Deviation of features over observations, relative to their mean absolute value."""
    return float(features.std(0).mean() / features.abs().mean().clamp(min=1e-12))


def _warnings(spread: float) -> tuple[str, ...]:
    if spread >= ALIKE:
        return ()
    return (f"features have collapsed: over observations they vary by {spread:.1g} of their mean absolute value",)


def _knn(encoded: Sequence[Encoded], splits: Sequence[Split]) -> dict[str, float]:
    """Which game is it, by the nearest neighbours; nothing for one game."""
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
    """Spectrum, principal components and energy, of an even choice of observations."""
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
