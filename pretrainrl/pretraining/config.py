"""Everything that determines the result of a run; equal configurations give equal weights."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from pretrainrl.cards import NAME, OBJECTIVES, Card, Scalar, TrainingPreset
from pretrainrl.errors import InputError, UnknownNameError


class Config(Card):
    """A complete pre-training configuration, as kept in a run folder's `config.toml`.

    Attributes:
        name: of the encoder that comes out, `objective.variant`.
        objective: registered name.
        datasets: Minari ids.
        preset: the objective's preset that the rest started from.
        backbone: registered name, or `package.module:Class`.
        backbone_options: keyword arguments of the backbone's class.
        model: keyword arguments of the objective's class.
        training: how to optimise.
        seed: of initialisation, batch order and augmentation.
        precision: `32-true`, or `bf16-mixed` for bfloat16 autocast.
    """

    name: str = Field(pattern=NAME)
    objective: str
    datasets: tuple[str, ...] = Field(min_length=1)
    preset: str
    backbone: str
    backbone_options: dict[str, Scalar] = Field(default={})
    model: dict[str, Any] = Field(default={})
    training: TrainingPreset
    seed: int = 0
    precision: str = Field(default="32-true", pattern="^(32-true|bf16-mixed)$")

    @classmethod
    def of(
        cls,
        objective: str,
        datasets: tuple[str, ...],
        *,
        name: str | None = None,
        preset: str = "nano",
        backbone: str | None = None,
        backbone_options: dict[str, Scalar] | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        precision: str = "32-true",
        model: dict[str, Any] | None = None,
    ) -> Config:
        """Start from a preset and replace what is given.

        Raises:
            UnknownNameError: for an objective or preset that does not exist.
            CardError: for values that do not fit.
        """
        card = OBJECTIVES.get(objective)
        if preset not in card.presets:
            raise UnknownNameError.of(f"preset of {objective}", preset, card.presets)
        base = card.presets[preset]
        changes = {"batch_size": batch_size, "lr": lr, "steps": steps}
        training = base.training.model_dump(exclude={"epochs"} if steps is not None else set())
        training.update({key: value for key, value in changes.items() if value is not None})
        chosen = backbone or base.backbone
        return cls.parse(
            {
                "name": name or f"{objective}.{chosen.rsplit(':', 1)[-1].lower()}",
                "objective": objective,
                "datasets": datasets,
                "preset": preset,
                "backbone": chosen,
                "backbone_options": backbone_options or (base.backbone_options if chosen == base.backbone else {}),
                "model": {**base.model, **(model or {})},
                "training": training,
                "seed": seed,
                "precision": precision,
            },
            f"pre-training {objective}",
        )

    def require_same(self, other: Config) -> None:
        """Check that a run with `other` may be continued with this configuration.

        Raises:
            InputError: naming every field that differs.
        """
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        differing = [f"{key} was {theirs[key]} and is now {mine[key]}" for key in mine if mine[key] != theirs[key]]
        if differing:
            raise InputError(f"cannot resume with another configuration: {'; '.join(differing)}")
