"""What a run is: all that its result depends on, checked before anything is made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import cast

from pydantic import Field

from pretrainrl.agent_cards import AgentCard, find_agent_card
from pretrainrl.arguments import MAX_PROCESSES, check_counts, check_seed
from pretrainrl.cards import Card, EncoderCard, Scalar, find_card
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import find_game
from pretrainrl.networks.necks import NECKS, Neck, reads_map

FEATURES = ("flat", "pooled", "map", "pixels")
MAX_EPISODE_STEPS = 27_000  # Atari-PB's
_NOT_COMPARED = {"versions"}  # an update need not end a long run


class FinetuneConfig(Card):
    """What was asked for.

    Attributes:
        algorithm: Name of an agent's card.
        preset: Name of one of the card's presets.
        game: Gymnasium's id of the game.
        encoder: Name of the encoder.
        features: Kind of what the agent observes: `flat`, `pooled` or `map`; `pixels` where the encoder is in the agent.
        neck: Name of what is trained after the encoder, one of `NECKS`.
        end_to_end: Whether the encoder is trained with the agent.
        dataset: Minari id of what is learned from, for agents that learn from a dataset.
        length: Length of the run: steps of all games together, or epochs for agents that learn from a dataset.
        earlier: Lengths at which the run ended before it was extended, in their order.
        n_envs: Number of games played together.
        seed: Seed of the agent and the games.
        eval_freq: Number of steps, or epochs, between two evaluations.
        eval_episodes: Number of whole games in an evaluation.
        eval_epsilon: Share of random actions in an evaluation; None for what the agent's card says.
        max_episode_steps: Number of the agent's steps after which a game is cut.
        sticky_actions: Chance that the game repeats the last action.
        checkpoint_every: Number of steps, or epochs, between two checkpoints.
    """

    algorithm: str
    preset: str
    game: str
    encoder: str
    features: str
    neck: str = "mlp"
    end_to_end: bool = False
    dataset: str | None = None
    length: int
    earlier: tuple[int, ...] = ()
    n_envs: int
    seed: int
    eval_freq: int
    eval_episodes: int
    eval_epsilon: float | None = None
    max_episode_steps: int = MAX_EPISODE_STEPS
    sticky_actions: float = 0.0
    checkpoint_every: int

    @property
    def agent(self) -> AgentCard:
        """Card of the agent."""
        return find_agent_card(self.algorithm, "finetune", "algorithm")

    @property
    def cloning(self) -> bool:
        """Whether the agent learns from a dataset, not from playing."""
        return self.agent.learns_from == "dataset"

    @property
    def epsilon(self) -> float | None:
        """Share of random actions in evaluations; None where actions are drawn from the policy."""
        return self.agent.evaluation_epsilon if self.eval_epsilon is None else self.eval_epsilon

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of the run: the one that it began with, then each to which it was extended."""
        return (*self.earlier, self.length)

    @classmethod
    def of(
        cls,
        algorithm: str,
        game: str,
        encoder: str | Path,
        *,
        preset: str | None,
        dataset: str | None,
        features: str | None,
        neck: str,
        end_to_end: bool,
        steps: int | None,
        epochs: int | None,
        n_envs: int,
        seed: int,
        eval_freq: int | None,
        eval_episodes: int,
        eval_epsilon: float | None,
        max_episode_steps: int,
        sticky_actions: float,
        checkpoint_every: int | None,
    ) -> FinetuneConfig:
        """Check the arguments of `finetune`, and fill in defaults.

        Raises:
            UnknownNameError: There is no such algorithm, preset, game, encoder, neck or kind of features.
            InputError: A number is out of range, or an argument is not for the algorithm.
            CardError: The encoder's card cannot be read.
        """
        check_seed(seed)
        check_counts(steps=steps, epochs=epochs, eval_freq=eval_freq, max_episode_steps=max_episode_steps)
        check_counts(checkpoint_every=checkpoint_every)
        check_counts(MAX_PROCESSES, n_envs=n_envs, eval_episodes=eval_episodes)
        agent = find_agent_card(algorithm, "finetune", "algorithm")
        preset = agent.uses["finetune"] if preset is None else preset
        default_length = agent.preset(preset).length
        _check_known("neck", neck, NECKS)
        card = find_card(encoder)
        if end_to_end and features not in (None, "pixels"):
            raise InputError(f"an encoder that is trained reads pixels; features must be pixels, got {features}")
        features = "pixels" if end_to_end else _features(features, neck, card)
        cloning = agent.learns_from == "dataset"
        if cloning:
            _check_absent(f"{algorithm} learns for a number of epochs", steps=steps)
            if dataset is None:
                raise InputError(f"{algorithm} learns from a dataset; give the id of a Minari dataset of the game")
        else:
            _check_absent(f"{algorithm} learns by playing", dataset=dataset, epochs=epochs)
        # Games are cut at checkpoints: half of Atari-PB's steps is longer than most games, even in eight together.
        defaults = (default_length, 10, 10) if cloning else (default_length, 10_000, 25_000)
        given = (epochs if cloning else steps, eval_freq, checkpoint_every)
        length, freq, every = (default if value is None else value for value, default in zip(given, defaults, strict=True))
        _check_share(sticky_actions=sticky_actions)
        if eval_epsilon is not None:
            _check_share(eval_epsilon=eval_epsilon)
            if agent.evaluation == "drawn":
                raise InputError(f"{algorithm} draws its actions in evaluations: leave out eval_epsilon, got {eval_epsilon}")
        return cls(
            algorithm=algorithm,
            preset=preset,
            game=find_game(game).env_id,
            encoder=card.name,
            features=features,
            neck=neck,
            end_to_end=end_to_end,
            dataset=dataset,
            length=length,
            n_envs=n_envs,
            seed=seed,
            eval_freq=freq,
            eval_episodes=eval_episodes,
            eval_epsilon=eval_epsilon,
            max_episode_steps=max_episode_steps,
            sticky_actions=sticky_actions,
            checkpoint_every=every,
        )


class FinetuneRecord(Card):
    """All that the result depends on, as kept in the folder's `config.toml`.

    Attributes:
        run: What was asked for.
        dataset_fingerprint: Fingerprint of the dataset's content.
        encoder_sha256: Digest of the encoder's weights, 64 hex digits.
        encoder_dtype: Dtype in which the encoder computes, `float32` or `bfloat16`.
        settings: Arguments of the algorithm; those that are no numbers or words are as Python writes them.
        versions: Versions of the packages that had a part in it.
    """

    run: FinetuneConfig
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


def _check_share(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name} must be in [0, 1], got {value}")
