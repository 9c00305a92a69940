"""Cards, configurations and weights: what says what an encoder is, and its tensors."""

import json
import shutil
from pathlib import Path
from random import Random

import torch
from mutate import damage, hostile_json, hostile_toml
from trials import CHANGED, SAME, Fault, Target, Trial

from pretrainrl.agent_cards import AgentCard
from pretrainrl.benchmarking.suite import Suite
from pretrainrl.cards import BACKBONES, OBJECTIVES, BackboneCard, Card, EncoderCard, ObjectiveCard
from pretrainrl.dataset_cards import DatasetCard, RecordingCard
from pretrainrl.encoders import Encoder, make_encoder
from pretrainrl.encoders.atari_pb import read_checkpoint
from pretrainrl.encoders.factory import tensors_sha256
from pretrainrl.paths import registry_folder

NAME, ALIAS = "siammae.impala_atari8", "siammae"
WEIGHTS = "encoder.safetensors"
KINDS: dict[str, type[Card]] = {
    "agents": AgentCard,
    "backbones": BackboneCard,
    "datasets": DatasetCard,
    "encoders": EncoderCard,
    "objectives": ObjectiveCard,
    "recordings": RecordingCard,
    "suites": Suite,
}


def write_encoder(folder: Path) -> None:
    """Write a shipped encoder as `pretrain` would: its card, and beside it the weights."""
    registry = registry_folder()
    card = EncoderCard.read(registry / "encoders" / f"{NAME}.toml")
    shutil.copy(registry / "weights" / f"{NAME}.safetensors", folder / WEIGHTS)
    weights = card.weights.model_copy(update={"sources": (WEIGHTS,)})
    card.model_copy(update={"weights": weights}).write(folder / EncoderCard.FILE)


def digest(encoder: Encoder) -> str:
    """Digest of an encoder's tensors."""
    return tensors_sha256(encoder.backbone.state_dict())


def content(card: Card) -> str:
    """Return all fields of a card, in an order of their own; NaN equals NaN."""
    return json.dumps(card.model_dump(mode="json"), sort_keys=True)


def check_target(target: str, registered: set[str]) -> None:
    """A card in a file must not bring code with it: what its backbone or objective names is registered."""
    if target not in registered:
        raise Fault("ran code", f"{target!r} was imported for a card")


def start_cards(folder: Path) -> Trial:
    """Cards of every kind; an encoder's is also made into an encoder, and folders try to shadow registered names."""
    texts = [(kind, path.read_text()) for kind in KINDS for path in sorted((registry_folder() / kind).glob("*.toml"))]
    shipped = digest(make_encoder(ALIAS))
    encoder_text = (folder / EncoderCard.FILE).read_text()
    OBJECTIVES.names()  # discovery reads all cards once

    def trial(rng: Random, scratch: Path) -> str:
        draw = rng.random()
        if draw < 0.1:
            return shadowed(rng, scratch)
        return encoder_trial(rng, scratch) if draw < 0.5 else card_trial(rng, scratch)

    def shadowed(rng: Random, scratch: Path) -> str:
        for name in (ALIAS, NAME):
            (scratch / name).mkdir()
            (scratch / name / EncoderCard.FILE).write_text(hostile_toml(rng, encoder_text))
            if digest(make_encoder(name)) != shipped:
                raise Fault("ran code", "a folder shadowed a registered name")
        return SAME

    def encoder_trial(rng: Random, scratch: Path) -> str:
        shutil.copy(folder / WEIGHTS, scratch)
        path = scratch / EncoderCard.FILE
        path.write_text(hostile_toml(rng, encoder_text), errors="replace")
        encoder = make_encoder(rng.choice((path, scratch)))
        check_target(encoder.card.backbone, set(BACKBONES.names()))
        with torch.no_grad():
            encoder(torch.zeros(1, 4, 84, 84, dtype=torch.uint8))
        return SAME if digest(encoder) == shipped else CHANGED

    def card_trial(rng: Random, scratch: Path) -> str:
        kind, text = rng.choice(texts)
        path = scratch / "card.toml"
        path.write_text(text)
        whole = KINDS[kind].read(path)
        path.write_text(hostile_toml(rng, text), errors="replace")
        found = KINDS[kind].read(path)
        found.write(scratch / "again.toml")
        if content(KINDS[kind].read(scratch / "again.toml")) != content(found):
            raise Fault("damage accepted", f"{kind}: a card that was written again reads otherwise")
        return SAME if found == whole else CHANGED

    return trial


def start_weights(folder: Path) -> Trial:
    """Safetensors behind a card's digest and without one, and checkpoints in Atari-PB's layout."""
    whole = (folder / WEIGHTS).read_bytes()
    shipped = digest(make_encoder(folder / EncoderCard.FILE))
    checkpoint = (folder / "checkpoint.pth").read_bytes()

    def trial(rng: Random, scratch: Path) -> str:
        draw = rng.random()
        if draw < 0.3:
            path = scratch / "checkpoint.pth"
            path.write_bytes(damage(rng, checkpoint))
            read_checkpoint(path)
            return CHANGED  # zip files have checksums, which torch does not check
        path = scratch / WEIGHTS
        path.write_bytes(damage(rng, whole) if draw < 0.7 else hostile_header(rng, whole))
        if draw < 0.5:
            shutil.copy(folder / EncoderCard.FILE, scratch)
            encoder = make_encoder(scratch)
            if digest(encoder) != shipped:
                raise Fault("damage accepted", "weights with another digest than the card's")
            return SAME
        return SAME if digest(make_encoder("random.impala", weights=path)) == shipped else CHANGED

    return trial


def hostile_header(rng: Random, content: bytes) -> bytes:
    """Change the JSON header of a safetensors file, and say its right length."""
    size = int.from_bytes(content[:8], "little")
    header = hostile_json(rng, content[8 : 8 + size].decode()).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def prepare_weights(folder: Path) -> None:
    """Write an encoder and a small checkpoint."""
    write_encoder(folder)
    torch.save({"backbone": {"conv1.weight": torch.ones(2, 4, 3, 3)}, "head": {"w": torch.ones(3)}}, folder / "checkpoint.pth")


CARDS = Target("cards", write_encoder, start_cards)
WEIGHTS_FILES = Target("weights", prepare_weights, start_weights)
