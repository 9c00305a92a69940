"""What a run is: all that its result depends on, checked before anything is made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pydantic import Field

from pretrainrl.cards import Card, EncoderCard, Scalar, find_card
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import find_game
from pretrainrl.networks.necks import NECKS, Neck, reads_map

ALGORITHMS = ("rainbow", "qrdqn", "ppo", "bc")
FEATURES = ("flat", "pooled", "map", "pixels")
STEPS, EPOCHS = 50_000, 100  # the study's
_NOT_COMPARED = {"versions"}  # an update need not end a long run


class Config(Card):
    """What was asked for.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        game: Gymnasium's id.
        encoder: name.
        features: `flat`, `pooled` or `map`, which are what the agent observes; `pixels` where the encoder is in the agent.
        neck: one of `NECKS`.
        dataset: Minari id, of `bc` only.
        length: steps of all games together; of `bc`, epochs.
        n_envs: games played at the same time.
        seed: of the agent and the games.
        eval_freq: steps, or epochs, between two evaluations.
        eval_episodes: whole games in each.
        checkpoint_every: steps, or epochs, between two checkpoints.
    """

    algorithm: str
    game: str
    encoder: str
    features: str
    neck: str = "mlp"
    dataset: str | None = None
    length: int
    n_envs: int
    seed: int
    eval_freq: int
    eval_episodes: int
    checkpoint_every: int

    @property
    def cloning(self) -> bool:
        """Whether the agent learns from a dataset, not from playing."""
        return self.algorithm == "bc"

    @classmethod
    def of(
        cls,
        algorithm: str,
        game: str,
        encoder: str | Path,
        *,
        dataset: str | None,
        features: str | None,
        neck: str,
        steps: int | None,
        epochs: int | None,
        n_envs: int,
        seed: int,
        eval_freq: int | None,
        eval_episodes: int,
        checkpoint_every: int | None,
    ) -> Config:
        """Check the arguments of `finetune`, and fill in defaults.

        Raises:
            UnknownNameError: for an algorithm, game, encoder or kind of features that does not exist.
            InputError: for a number out of range, or an argument that is not the algorithm's.
            CardError: when the encoder's card cannot be read.
        """
        _check_known("algorithm", algorithm, ALGORITHMS)
        _check_known("neck", neck, NECKS)
        card = find_card(encoder)
        features = _features(features, neck, card)
        cloning = algorithm == "bc"
        if cloning:
            _check_absent("bc learns for a number of epochs", steps=steps)
            if dataset is None:
                raise InputError("bc learns from a dataset; give the id of a Minari dataset of the game")
        else:
            _check_absent(f"{algorithm} learns by playing", dataset=dataset, epochs=epochs)
        # Games are cut at checkpoints: half of the study's steps is longer than most games, even in eight together.
        defaults = (EPOCHS, 10, 10) if cloning else (STEPS, 10_000, 25_000)
        given = (epochs if cloning else steps, eval_freq, checkpoint_every)
        length, freq, every = (default if value is None else value for value, default in zip(given, defaults, strict=True))
        _check_positive(n_envs=n_envs, eval_freq=freq, eval_episodes=eval_episodes, checkpoint_every=every)
        _check_positive(**{"epochs" if cloning else "steps": length})
        if not 0 <= seed < 2**32:
            raise InputError(f"seed must be at least 0 and below 2**32, got {seed}")
        return cls(
            algorithm=algorithm,
            game=find_game(game).env_id,
            encoder=card.name,
            features=features,
            neck=neck,
            dataset=dataset,
            length=length,
            n_envs=n_envs,
            seed=seed,
            eval_freq=freq,
            eval_episodes=eval_episodes,
            checkpoint_every=every,
        )


class Record(Card):
    """All that the result depends on, as kept in the folder's `config.toml`.

    Attributes:
        run: what was asked for.
        dataset_fingerprint: of the dataset's content.
        encoder_sha256: of the encoder's weights.
        encoder_dtype: that it computes in.
        settings: arguments of the algorithm; those that are no numbers or words, as Python writes them.
        versions: of the packages that had a part in it.
    """

    run: Config
    dataset_fingerprint: str | None = None
    encoder_sha256: str
    encoder_dtype: str
    settings: dict[str, Scalar] = Field(default={})
    versions: dict[str, str] = Field(default={})

    def compared(self) -> dict[str, object]:
        """Return what must be the same for a run to go on, as one table."""
        table = self.model_dump(mode="json", exclude=_NOT_COMPARED)
        return {**table.pop("run"), **table.pop("settings"), **table}


def _features(given: str | None, neck: str, card: EncoderCard) -> str:
    """Check the kind of features, or choose it: maps for necks that read them, else what the encoder's card says."""
    on_maps = reads_map(cast(Neck, neck))
    if given is None:
        return "map" if on_maps else card.features
    _check_known("kind of features", given, FEATURES)
    if on_maps and given not in ("map", "pixels"):
        raise InputError(f"neck {neck!r} reads feature maps; give it features 'map' or 'pixels', not {given!r}")
    return given


def _check_known(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise UnknownNameError.of(kind, name, known)


def _check_absent(why: str, **arguments: object) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise InputError(f"{why}: {name} is not for it, got {value}")


def _check_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
