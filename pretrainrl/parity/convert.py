"""Conversion of Atari-PB's checkpoints to encoders of this package, and back."""

from __future__ import annotations

from pathlib import Path

from pretrainrl.cards import OBJECTIVES, EncoderCard, Golden, Weights
from pretrainrl.encoders import Encoder, make_backbone, make_encoder
from pretrainrl.encoders.atari_pb import checkpoint_tensors, read_checkpoint, resnet50_tensors
from pretrainrl.encoders.check import golden_values
from pretrainrl.encoders.factory import load_tensors
from pretrainrl.errors import InputError
from pretrainrl.parity.checkpoint import ALIASES, objective_name
from pretrainrl.paths import atomic_path, output_file, output_folder, save_with_torch
from pretrainrl.weights import file_sha256, save_tensors

WEIGHTS = "encoder.safetensors"


def import_checkpoint(checkpoint: Path, out: Path, objective: str | None = None) -> EncoderCard:
    """Write the backbone of `checkpoint` to the new folder `out` as safetensors with a card, and return the card.

    `make_encoder(out)` loads the folder. The tensors keep their values, in float32.

    Args:
        checkpoint: Path of a .pth file in Atari-PB's layout.
        out: Folder to write, which must not exist.
        objective: Name of the objective; by default it is recognized from the checkpoint.

    Raises:
        WeightsError: When the checkpoint cannot be read or does not fit a ResNet-50.
        InputError: When `out` exists or cannot be written.
    """
    out = output_folder(out)
    if out.exists():
        raise InputError(f"{out} exists; choose another folder")
    networks = read_checkpoint(checkpoint)
    width, tensors = resnet50_tensors(networks["backbone"], str(checkpoint))
    name = objective_name(checkpoint.stem, networks) if objective is None else ALIASES.get(objective, objective)
    known = OBJECTIVES.get(name)
    backbone = make_backbone("resnet50", width=width)
    load_tensors(backbone, tensors, str(checkpoint))
    with atomic_path(out) as temporary:
        temporary.mkdir()
        save_tensors({key: tensor.float().contiguous() for key, tensor in tensors.items()}, temporary / WEIGHTS)
        card = _card(
            name,
            width,
            Weights(
                sources=(WEIGHTS,),
                sha256=file_sha256(temporary / WEIGHTS),
                bytes=(temporary / WEIGHTS).stat().st_size,
            ),
        ).model_copy(update={"paper": known.paper})
        golden = Golden(features=tuple(golden_values(Encoder(backbone, card, str(card.sha256)))))
        card.model_copy(update={"golden": golden}).write(temporary / EncoderCard.FILE)
    return EncoderCard.read(out / EncoderCard.FILE)


def _card(objective: str, width: float, weights: Weights) -> EncoderCard:
    return EncoderCard(
        name=f"{objective}.resnet50_atari_pb",
        summary=f"{objective}, converted from a checkpoint of Atari-PB's code",
        objective=objective,
        backbone="resnet50",
        backbone_options={} if width == 1 else {"width": width},
        features="pooled",
        feature_map_shape=(round(2048 * width), 6, 6),
        license="NOASSERTION",
        weights=weights,
    )


def export_checkpoint(encoder: str, out: Path) -> None:
    """Write a ResNet-50 encoder as a checkpoint that Atari-PB's code loads.

    The checkpoint holds `backbone`, `epoch` and `step`; fine-tuning trains a new neck and head.

    Args:
        encoder: Name, run folder or card file of the encoder.
        out: Path of the .pth file to write, which must not exist.

    Raises:
        InputError: When the encoder is not a ResNet-50, or `out` exists or cannot be written.
    """
    out = output_file(out)
    if out.exists():
        raise InputError(f"{out} exists; choose another name")
    made = make_encoder(encoder)
    if made.card.backbone != "resnet50":
        raise InputError(f"Atari-PB's code loads ResNet-50 only, and {made.card.name} is made of {made.card.backbone!r}")
    with atomic_path(out) as temporary:
        save_with_torch({"backbone": checkpoint_tensors(made.backbone.state_dict()), "epoch": 0, "step": 0}, temporary)
