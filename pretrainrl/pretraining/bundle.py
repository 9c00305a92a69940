"""From a finished run to files of the registry: `python -m pretrainrl.pretraining.bundle runs/mine`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from pretrainrl.cards import EncoderCard
from pretrainrl.encoders.check import verify_encoder
from pretrainrl.paths import atomic_path, registry_folder


def bundle(run: Path, registry: Path, *, summary: str | None = None, default: bool = True) -> EncoderCard:
    """Verify the encoder of a finished run, and copy it into the registry.

    Args:
        run: Folder that `pretrain` has filled.
        registry: Folder `registry/` of the clone.
        summary: Sentence on what the encoder is; by default the card's.
        default: Whether the bare name of the objective stands for this encoder.

    Returns:
        The card in the registry.

    Raises:
        PretrainRLError: The encoder fails verification.
    """
    card = verify_encoder(str(run))
    file = f"weights/{card.name}.safetensors"
    with atomic_path(registry / file) as temporary:
        shutil.copyfile(card.weights.sources[0], temporary)
    bundled = card.model_copy(
        update={
            "default": default,
            "summary": summary or card.summary,
            "weights": card.weights.model_copy(update={"sources": (f"bundled:{file}",)}),
        }
    )
    bundled.write(registry / "encoders" / f"{card.name}.toml")
    return bundled


def main() -> None:
    """Bundle the run named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--summary")
    arguments = parser.parse_args()
    print(bundle(arguments.run, registry_folder(), summary=arguments.summary).name)


if __name__ == "__main__":
    main()
