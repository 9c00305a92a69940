"""Everything that determines the result of a run; equal configurations give equal weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from pretrainrl.arguments import MAX_SEED
from pretrainrl.cards import (
    BACKBONES,
    NAME,
    OBJECTIVES,
    Card,
    EncoderCard,
    Initial,
    Preset,
    RegisteredName,
    Scalar,
    TrainingPreset,
)
from pretrainrl.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from pretrainrl.pretraining.start import Start


class PretrainConfig(Card):
    """A complete pre-training configuration, as kept in a run folder's `config.toml`.

    Attributes:
        name: Name of the encoder that comes out, `objective.variant`.
        objective: Registered name of the objective.
        datasets: Minari ids of the datasets, at least one.
        preset: Name of the objective's preset that the other values started from.
        backbone: Registered name of the backbone.
        backbone_options: Keyword arguments of the backbone's class.
        model: Keyword arguments of the objective's class.
        training: Settings of the optimizer.
        seed: Seed of initialization, batch order and augmentation.
        precision: Precision of the computation, `32-true`, or `bf16-mixed` for bfloat16 autocast.
        initial: Encoder, or run, that training begins from; None for a new network.
    """

    name: str = Field(pattern=NAME)
    objective: str
    datasets: tuple[str, ...] = Field(min_length=1)
    preset: str
    backbone: RegisteredName
    backbone_options: dict[str, Scalar] = Field(default={})
    model: dict[str, Any] = Field(default={})
    training: TrainingPreset
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    precision: str = Field(default="32-true", pattern="^(32-true|bf16-mixed)$")
    initial: Initial | None = None

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
        start: Start | None = None,
    ) -> PretrainConfig:
        """Start from a preset of the objective and replace the values that are given.

        Args:
            objective: Registered name of the objective.
            datasets: Minari ids of the datasets.
            name: Name of the encoder that comes out; by default made of the objective's name and the backbone's.
            preset: Name of the preset.
            backbone: Registered name of the backbone; by default the preset's, or that of what training begins from.
            backbone_options: Keyword arguments of the backbone's class; by default those that come with the backbone.
            steps: Number of optimizer steps, which replaces the preset's steps or epochs.
            batch_size: Number of windows in a step.
            lr: Greatest learning rate.
            seed: Seed of initialization, batch order and augmentation.
            precision: Precision of the computation, `32-true`, or `bf16-mixed` for bfloat16 autocast.
            model: Keyword arguments of the objective's class, which replace the preset's one by one.
            start: Weights that training begins from; None for a new network.

        Raises:
            UnknownNameError: There is no such objective, preset or backbone.
            InputError: The backbone is not registered, or is not that of the encoder that training begins from.
            CardError: A value does not fit.
        """
        card = OBJECTIVES.get(objective)
        if preset not in card.presets:
            raise UnknownNameError.of(f"preset of {objective}", preset, card.presets)
        base = card.presets[preset]
        changes = {"batch_size": batch_size, "lr": lr, "steps": steps}
        training = base.training.model_dump(exclude={"epochs"} if steps is not None else set())
        training.update({key: value for key, value in changes.items() if value is not None})
        source: Preset | EncoderCard = base if start is None else start.card
        chosen = backbone or source.backbone
        if ":" in chosen and chosen not in BACKBONES:
            raise InputError(
                f"backbone {chosen!r} names code, which the card of an encoder cannot; register it by BACKBONES.register or "
                "an entry point of the group 'pretrainrl.backbones', and give its name"
            )
        BACKBONES.get(chosen)
        options = backbone_options or (source.backbone_options if chosen == source.backbone else {})
        if start is not None and (chosen, options) != (source.backbone, source.backbone_options):
            made_of, asked = (
                " ".join([name, *(f"{key}={value}" for key, value in given.items())])
                for name, given in ((source.backbone, source.backbone_options), (chosen, options))
            )
            raise InputError(f"{start.card.name} has the backbone {made_of}, not {asked}; leave the backbone out")
        return cls.parse(
            {
                "name": name or f"{objective}.{chosen.lower()}",
                "objective": objective,
                "datasets": datasets,
                "preset": preset,
                "backbone": chosen,
                "backbone_options": options,
                "model": {**base.model, **(model or {})},
                "training": training,
                "seed": seed,
                "precision": precision,
                "initial": None if start is None else start.initial.model_dump(),
            },
            f"pre-training {objective}",
        )
