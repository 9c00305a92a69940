"""Cards: the TOML records that say what an encoder, a backbone or an objective is, and where its weights are."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pretrainrl.arguments import MAX_SEED
from pretrainrl.card_files import Card as Card
from pretrainrl.card_files import CardT as CardT
from pretrainrl.card_files import Initial as Initial
from pretrainrl.card_files import Paper as Paper
from pretrainrl.card_files import RegisteredName as RegisteredName
from pretrainrl.card_files import Source as Source
from pretrainrl.card_files import Target as Target
from pretrainrl.errors import UnknownNameError
from pretrainrl.paths import resolve_path
from pretrainrl.registry import Registry

Scalar = str | int | float | bool
WIDEST_FLAT = 8_192
NAME = r"^[a-z0-9_]+\.[a-z0-9_]+$"  # objective.variant


class ObservationSpec(Card):
    """What an encoder's input is.

    Attributes:
        shape: Shape (frames, height, width) of one observation.
        dtype: Type of the frames; floats in [0, 1] are accepted too.
        scale: Factor on a frame's values before the first layer.
        stack_order: Order of the frames along the first axis.
        frame_skip: Number of emulator frames in a step, of which the last two are max-pooled.
        resize: Interpolation from the emulator's 210x160 screen.
        sticky_actions: Probability with which the emulator repeated the previous action in the training data.
    """

    shape: tuple[int, int, int] = (4, 84, 84)
    dtype: Literal["uint8"] = "uint8"
    scale: Literal["1/255"] = "1/255"
    stack_order: Literal["oldest_first"] = "oldest_first"
    frame_skip: int = 4
    resize: Literal["area", "bilinear"] = "area"
    sticky_actions: float = Field(default=0.25, ge=0, le=1)


class Weights(Card):
    """Where tensors come from: files that all hold the same bytes, or a seed for an untrained network.

    Attributes:
        sources: Places, tried in order: `bundled:<file>`, a path (relative to the card), or
            `hf://<org>/<repo>/<file>@<revision>`. `atari-pb:<file>`, a checkpoint that users get by themselves, stands alone.
        sha256: Digest of the file, 64 hex digits.
        bytes: Size of the file.
        seed: Seed of the untrained network, instead of the three above.
    """

    sources: tuple[Source, ...] = ()
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    bytes: int | None = Field(default=None, gt=0)
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)

    @property
    def manual(self) -> bool:
        """Whether the file is one that users get by themselves and name when they make the encoder."""
        return any(source.startswith("atari-pb:") for source in self.sources)

    def beside(self, folder: Path) -> Weights:
        """Return them with sources that are relative to `folder` made absolute."""
        sources = tuple(source if ":" in source else str((folder / source).resolve()) for source in self.sources)
        return self.model_copy(update={"sources": sources})

    @model_validator(mode="after")
    def _either(self) -> Weights:
        if self.manual:
            if len(self.sources) > 1 or (self.sha256, self.bytes, self.seed) != (None, None, None):
                raise ValueError("an atari-pb source stands alone")
            return self
        from_file = [bool(self.sources), self.sha256 is not None, self.bytes is not None]
        if all(from_file) == (self.seed is not None) or any(from_file) != all(from_file):
            raise ValueError("give either sources, sha256 and bytes, or seed")
        return self


class Training(Card):
    """How weights were made.

    Attributes:
        datasets: Minari ids of the datasets.
        transitions: Number of transitions in all of them together.
        fingerprint: Digest of all frames, actions, rewards and ends, 16 hex digits, where it was recorded.
        steps: Number of optimizer steps.
        batch_size: Number of windows in a step, over all processes.
        preset: Preset of the objective.
        seed: Seed of initialization and batch order.
        commit: Commit of the code, 40 hex digits, or "unknown".
        command: Command line that makes the weights again.
        minutes: Minutes of training, on `hardware`.
        hardware: Device that trained them.
        objective_sha256: SHA-256 of the file of the whole objective in the run's folder, 64 hex digits, where it was recorded.
        initial: Encoder, or run, that training began from; None for new weights.
    """

    datasets: tuple[str, ...]
    transitions: int
    fingerprint: str | None = None
    steps: int
    batch_size: int
    preset: str
    seed: int
    commit: str
    command: str
    minutes: float
    hardware: str
    objective_sha256: str | None = None
    initial: Initial | None = None


class Golden(Card):
    """A check of the whole path from file to features.

    Attributes:
        observation: Source of a file with a (B, 4, 84, 84) uint8 tensor `observation`.
        features: Values of `encoder(observation)` at evenly spaced places, computed in float32.
    """

    observation: Source = "bundled:golden.safetensors"
    features: tuple[float, ...] = Field(min_length=1)


class Evaluation(Card):
    """How good agents on an encoder were, by a suite of `pretrainrl benchmark`; `pretrainrl leaderboard` writes it.

    Attributes:
        suite: Name of the suite.
        version: Version of the suite.
        task: Name of the task.
        split: Name of the split.
        iqm: Interquartile mean of normalized scores over all games of the split.
        low: Lower end of its 95 % interval; NaN where there is one seed.
        high: Upper end of the interval; NaN where there is one seed.
        seeds: Number of seeds.
        dtype: Type that the encoder computed in.
    """

    suite: str
    version: int
    task: str
    split: str
    iqm: float
    low: float
    high: float
    seeds: int
    dtype: str


class EncoderCard(Card):
    """Everything there is to know about one registered encoder.

    Attributes:
        name: Name, `objective.variant`.
        default: Whether the bare objective is an alias of this name.
        summary: Line on what it is and is not good for.
        objective: Objective that trained it, or `random`.
        backbone: Registered name of the network; for a card that is made in Python also `package.module:Class`.
        backbone_options: Keyword arguments of the network's class.
        features: Kind of what `encoder(obs)` returns: `flat`, the map flattened, or `pooled`, its mean over space.
        feature_map_shape: Shape (channels, height, width) of a feature map.
        license: SPDX identifier of the weights' license.
        metrics: Measured values by name.
        evaluations: How good agents on it were, by suite, task and split.
        standardization: File of each feature's mean and standard deviation, which `write_standardization` makes.
    """

    name: str = Field(pattern=NAME)
    default: bool = False
    summary: str
    objective: str
    backbone: RegisteredName
    backbone_options: dict[str, Scalar] = Field(default={})
    features: Literal["flat", "pooled"]
    feature_map_shape: tuple[int, int, int]
    license: str
    observation: ObservationSpec = ObservationSpec()
    weights: Weights
    training: Training | None = None
    paper: Paper | None = None
    metrics: dict[str, float] = Field(default={})
    evaluations: tuple[Evaluation, ...] = ()
    golden: Golden | None = None
    standardization: Weights | None = None

    FILE: ClassVar[str] = "card.toml"

    @property
    def sha256(self) -> str | None:
        """Digest of the weights' file; None for untrained, seeded weights."""
        return self.weights.sha256

    @property
    def features_dim(self) -> int:
        """Length of a feature vector."""
        channels, height, width = self.feature_map_shape
        return channels * height * width if self.features == "flat" else channels

    @classmethod
    def read(cls, path: Path) -> EncoderCard:
        """Read a card; files named by a relative path get an absolute one, because they lie beside it."""
        card = super().read(path)
        files = {name: file for name in ("weights", "standardization") if (file := getattr(card, name)) is not None}
        return card.model_copy(update={name: file.beside(path.parent) for name, file in files.items()})


class BackboneCard(Card):
    """A network that turns stacked frames into a feature map.

    Attributes:
        target: Class, as `package.module:Class`.
    """

    name: str
    target: Target
    summary: str
    paper: Paper


def default_features(feature_map_shape: tuple[int, int, int]) -> Literal["flat", "pooled"]:
    """Choose a new encoder's kind of features by the width of its flattened map.

    An agent's linear layer has a weight for each feature and each of, say, 512 outputs. Up to 8,192 features are given as they
    are, `flat`; of wider maps, such as a ResNet-50's with 73,728 values, the mean over space, `pooled`.

    Args:
        feature_map_shape: Shape (channels, height, width) of a map.
    """
    return "flat" if math.prod(feature_map_shape) <= WIDEST_FLAT else "pooled"


class TrainingPreset(Card):
    """Settings of optimization with AdamW, over a number of `steps` or of `epochs`.

    Attributes:
        batch_size: Number of windows in a step, over all processes.
        steps: Number of optimizer steps.
        epochs: Number of passes over all windows, instead of `steps`.
        lr: Peak learning rate; `warmup` is the share of steps that lead up to it from a tenth of it.
        weight_decay, betas, eps: Arguments of AdamW.
        clip_grad_norm: Greatest norm of gradients; 0 does not clip.
    """

    batch_size: int = Field(gt=0)
    steps: int | None = Field(default=None, gt=0)
    epochs: int | None = Field(default=None, gt=0)
    lr: float = Field(gt=0, allow_inf_nan=False)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    clip_grad_norm: float = 0.5

    @model_validator(mode="after")
    def _one_length(self) -> TrainingPreset:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self


class Preset(Card):
    """One complete setting of an objective: backbone, the objective's own options, and how to optimize."""

    backbone: RegisteredName
    backbone_options: dict[str, Scalar] = Field(default={})
    model: dict[str, Any] = Field(default={})
    training: TrainingPreset


class ObjectiveCard(Card):
    """A pre-training objective.

    Attributes:
        target: Class, as `package.module:Class`.
        data: Kind of data that it learns from.
    """

    name: str
    target: Target
    data: Literal["image", "video", "demonstration", "trajectory"]
    summary: str
    paper: Paper
    presets: dict[str, Preset]


ENCODERS: Registry[EncoderCard] = Registry(
    "encoder",
    EncoderCard.read,
    group="pretrainrl.encoders",
    alias=lambda card: card.objective if card.default else None,
)
BACKBONES: Registry[BackboneCard] = Registry("backbone", BackboneCard.read, group="pretrainrl.backbones")
OBJECTIVES: Registry[ObjectiveCard] = Registry("objective", ObjectiveCard.read, group="pretrainrl.objectives")


def find_encoder(name: str | Path) -> str | Path:
    """Return the name of an encoder as it is if it is one of the registry, and else the absolute path that it stands for.

    Names are looked up first, so that no folder stands in for an encoder that is named like it.

    Args:
        name: Registered name or alias; or a run folder or card file, as a `Path` or as text with a separator or `.toml` in it.

    Raises:
        UnknownNameError: When the name is not registered, and is no path.
        InputError: When the path is none, such as one in the home of an unknown user.
    """
    if isinstance(name, Path):
        return resolve_path(name)
    if name in ENCODERS:
        return name
    if is_path(name, ".toml"):
        return resolve_path(name)
    try:
        ENCODERS.get(name)  # the alias of a plugin is known once the plugin is loaded
    except UnknownNameError as error:
        hint = f"; a folder is named with a separator, as ./{name}" if name and resolve_path(name).exists() else ""
        raise UnknownNameError(f"{error}{hint}") from None
    return name


def is_path(name: str, suffix: str) -> bool:
    """Return whether a name that is not registered is a path: it has a separator, or the suffix of a file."""
    return "/" in name or os.sep in name or name.endswith(suffix)


def find_card(name: str | Path) -> EncoderCard:
    """Return the card of a registered encoder, of a run folder, or of a card file.

    Raises:
        UnknownNameError: When the name is not registered.
        CardError: When the card cannot be read.
        InputError: When the path is none.
    """
    found = find_encoder(name)
    if isinstance(found, str):
        return ENCODERS.get(found)
    path = Path(name).expanduser()  # as it was given, for messages
    return EncoderCard.read(path / EncoderCard.FILE if found.is_dir() else path)
