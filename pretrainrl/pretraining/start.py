"""What pre-training begins from, where that is not a new network: an encoder, or the objective of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pretrainrl.cards import EncoderCard, Initial, find_card
from pretrainrl.encoders.factory import load_tensors, read_backbone
from pretrainrl.errors import WeightsError
from pretrainrl.objectives import Objective
from pretrainrl.pretraining.config import PretrainConfig
from pretrainrl.pretraining.trained import FILE, check_objective, read_games
from pretrainrl.runs.folder import CONFIG
from pretrainrl.weights import FileContent, parse_tensors

_BACKBONE = "backbone."  # before the names of its tensors in an objective


@dataclass(frozen=True, eq=False)
class TrainedObjectiveFile:
    """The objective of a finished run, as its folder holds it.

    Attributes:
        config: Configuration of the run.
        games: Slugs of the games that the objective's heads are for.
        file: File of the weights, float32.
    """

    config: PretrainConfig
    games: tuple[str, ...]
    file: FileContent


@dataclass(frozen=True, eq=False)
class Start:
    """Weights that training begins from. Optimizer and schedule are new.

    Attributes:
        card: Card of the encoder.
        initial: Record for the run's configuration.
        backbone: Tensors of the backbone.
        objective: Objective of the run, where `read` was given the folder of one.
    """

    card: EncoderCard
    initial: Initial
    backbone: dict[str, Tensor]
    objective: TrainedObjectiveFile | None

    @classmethod
    def read(cls, source: str | Path) -> Start:
        """Read what `source`, a name, run folder or card file, stands for.

        Raises:
            UnknownNameError: The name is not registered.
            CardError: The card cannot be read, as that of a run that is not finished.
            WeightsError: The weights cannot be had, are damaged, or do not belong together.
        """
        card = find_card(source)
        backbone, sha256 = read_backbone(card)
        # Beside the weights: a folder called `source` may have only the encoder's name.
        found = [path for each in card.weights.sources if (path := Path(each).with_name(FILE)).is_file()]
        if not found:
            return cls(card, Initial(name=card.name, sha256=sha256), backbone, None)
        file = check_objective(found[0])
        tensors = parse_tensors(file)  # the encoder's own file has float16
        whole = {key.removeprefix(_BACKBONE): tensors[key] for key in tensors if key.startswith(_BACKBONE)}
        if whole.keys() != backbone.keys() or not all(
            torch.equal(whole[key].half(), backbone[key].half()) for key in backbone
        ):
            raise WeightsError(f"{file.path} is damaged, or not of the run whose encoder lies beside it")
        objective = TrainedObjectiveFile(PretrainConfig.read(found[0].with_name(CONFIG)), read_games(file)[0], file)
        return cls(card, Initial(name=card.name, sha256=sha256, objective_sha256=file.sha256), whole, objective)

    def load_backbone(self, backbone: nn.Module) -> None:
        """Copy the encoder's weights into a new backbone."""
        load_tensors(backbone, self.backbone, self.card.name)

    def load_objective(self, objective: Objective, config: PretrainConfig, games: tuple[str, ...]) -> Initial:
        """Copy all other weights of the same objective with the same options for the same games; others begin with new ones.

        Returns:
            Record of what training begins from, for the card.
        """
        found = self.objective
        asked = (config.objective, config.model, games)
        if found is None or (found.config.objective, found.config.model, found.games) != asked:
            return self.initial.model_copy(update={"objective_sha256": None})
        load_tensors(objective, parse_tensors(found.file), str(found.file.path))
        return self.initial
