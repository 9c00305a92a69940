"""Cards of agents: what learns, with which settings, from what, and how it is evaluated.

A card names a class as `package.module:Class`, so cards come from three places only: this package, entry points of installed
packages in the group `pretrainrl.agents`, and calls of `AGENTS.register`. What commands and files name is a card, not a class.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from pretrainrl.cards import Card, Paper, Scalar, Target
from pretrainrl.errors import UnknownNameError
from pretrainrl.registry import Registry

Use = Literal["finetune", "collect", "rl_zoo"]


class Scaled(Card):
    """A number that follows from a run's size: one of `per_env`, `share` and `steps`, within bounds.

    Attributes:
        per_env: Factor on the number of games played together.
        share: Share of the run's steps, rounded down.
        steps: Number of steps, which is turned into a share of the run's steps.
        at_most: Upper bound.
        at_least: Lower bound, which wins over `at_most`.
        at_least_per_env: Factor on the number of games that gives another lower bound.
    """

    per_env: float | None = None
    share: float | None = None
    steps: int | None = None
    at_most: float | None = None
    at_least: int = 0
    at_least_per_env: int = 0

    @model_validator(mode="after")
    def _one_rule(self) -> Scaled:
        if sum(rule is not None for rule in (self.per_env, self.share, self.steps)) != 1:
            raise ValueError("give one of per_env, share and steps")
        return self

    def value(self, steps: int, n_envs: int) -> int | float:
        """Return the number for a run of `steps` transitions in `n_envs` games; an integer unless it is a share."""
        limit = math.inf if self.at_most is None else self.at_most
        if self.steps is not None:
            return max(min(self.steps / steps, limit), self.at_least)
        scaled = n_envs * self.per_env if self.per_env is not None else steps * (self.share or 0.0)
        return max(math.floor(min(scaled, limit) + 1e-9), self.at_least, self.at_least_per_env * n_envs)


class Schedule(Card):
    """A setting that changes over a run.

    Attributes:
        shape: `linear` falls from `peak` to `end`; `warmup_cosine` rises from a tenth of `peak`, then falls back to it.
        peak: Greatest value.
        end: Last value of `linear`.
    """

    shape: Literal["linear", "warmup_cosine"]
    peak: float
    end: float = 0.0


class AgentPreset(Card):
    """One complete setting of an agent's algorithm; what is not given is the algorithm's default.

    Attributes:
        steps: Length of a run in transitions of all games together.
        epochs: Length of a run in passes over a dataset, instead of `steps`.
        n_envs: Number of games that RL Zoo plays together, which is 1 where it is not given.
        settings: Arguments of the algorithm's class by name.
        policy_kwargs: Arguments of the policy, beside those that an encoder needs.
        replay_buffer: Class of the replay buffer, `package.module:Class`.
        replay_buffer_kwargs: Arguments of that class.
    """

    steps: int | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, gt=0)
    n_envs: int | None = Field(default=None, gt=0)
    settings: dict[str, Scalar | Scaled | Schedule] = Field(default={})
    policy_kwargs: dict[str, Any] = Field(default={})
    replay_buffer: Target | None = None
    replay_buffer_kwargs: dict[str, Scalar] = Field(default={})

    @model_validator(mode="after")
    def _one_length(self) -> AgentPreset:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    @property
    def length(self) -> int:
        """Length of a run, in the unit that the preset has."""
        return self.steps or self.epochs or 0

    def scaled(self, steps: int, n_envs: int) -> AgentPreset:
        """Return the preset for a run of `steps` transitions in `n_envs` games: `settings` has no `Scaled` any more."""
        values = {
            name: value.value(steps, n_envs) if isinstance(value, Scaled) else value for name, value in self.settings.items()
        }
        return self.model_copy(update={"settings": values})

    def with_settings(self, **settings: Scalar) -> AgentPreset:
        """Return the preset with some settings replaced."""
        return self.model_copy(update={"settings": {**self.settings, **settings}})

    def flat(self) -> dict[str, Any]:
        """Return all arguments in one table of JSON values, as records of a run have them."""
        table = self.model_dump(mode="json")
        return {**table["settings"], **table["replay_buffer_kwargs"], **table["policy_kwargs"]}


class AgentCard(Card):
    """An agent that learns.

    Attributes:
        name: Name under which commands know it.
        title: Name of the algorithm for people.
        summary: One sentence on what it is good for.
        algorithm: Class of Stable-Baselines3's kind, `package.module:Class`.
        policy: Policy that takes an encoder's name as its argument, `package.module:Class`, for RL Zoo's files.
        observes: `frames`, from which an encoder's features may be made, or the console's `memory`.
        learns_from: `play`, or a `dataset`. In the second case `algorithm` has the interface of `BehaviorCloning`.
        evaluation: `greedy` takes the best action but for the share `epsilon`; `drawn` draws from the policy.
        epsilon: Share of random actions in greedy evaluation.
        augments: Whether the class takes `augment`, which alters frames at random in learning.
        uses: Preset of each command that can run the agent, by the command's name.
        presets: Settings by name.
        paper: Publication of the algorithm.
    """

    name: str = Field(pattern=r"^[a-z0-9_]+(-[a-z0-9_]+)*$")
    title: str
    summary: str
    algorithm: Target
    policy: Target | None = None
    observes: Literal["frames", "memory"] = "frames"
    learns_from: Literal["play", "dataset"] = "play"
    evaluation: Literal["greedy", "drawn"] = "greedy"
    epsilon: float = Field(default=0.001, ge=0, le=1)
    augments: bool = False
    uses: dict[Use, str]
    presets: dict[str, AgentPreset]
    paper: Paper | None = None

    @model_validator(mode="after")
    def _presets_exist(self) -> AgentCard:
        missing = sorted({*self.uses.values()} - {*self.presets})
        if missing:
            raise ValueError(f"uses names presets that the card lacks: {', '.join(missing)}")
        return self

    @property
    def evaluation_epsilon(self) -> float | None:
        """Share of random actions in evaluation; None where actions are drawn from the policy."""
        return self.epsilon if self.evaluation == "greedy" else None

    def preset(self, name: str) -> AgentPreset:
        """Return a preset by name.

        Raises:
            UnknownNameError: The card has no such preset; the message has the nearest names.
        """
        if name not in self.presets:
            raise UnknownNameError.of(f"preset of {self.name}", name, self.presets)
        return self.presets[name]


AGENTS: Registry[AgentCard] = Registry("agent", AgentCard.read, group="pretrainrl.agents")


def agent_names(use: Use) -> list[str]:
    """Return the names of the agents that the command `use` can run, sorted."""
    return [name for name, card in AGENTS.by_name().items() if use in card.uses]


def find_agent_card(name: str, use: Use, kind: str = "agent") -> AgentCard:
    """Return the card of an agent that the command `use` can run.

    Args:
        name: Name of the agent.
        use: Command, `finetune`, `collect` or `rl_zoo`.
        kind: Word for an agent in the error.

    Raises:
        UnknownNameError: There is no such agent; the message has the nearest names.
        PluginError: It is of another package, and cannot be loaded.
    """
    card = AGENTS.get(name) if name in AGENTS else None
    if card is None or use not in card.uses:
        raise UnknownNameError.of(kind, name, agent_names(use))
    return card
