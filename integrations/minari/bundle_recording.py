"""From recordings to files of the registry: `python -m pretrainrl.integrations.minari.bundle_recording recordings/*.rec`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from pretrainrl.data.recording import Recording
from pretrainrl.dataset_cards import RecordingCard
from pretrainrl.integrations.minari.recordings import command_of, returns_of
from pretrainrl.paths import atomic_path, registry_folder


def bundle_recording(
    path: Path, registry: Path, *, play: str | None = None, limitations: tuple[str, ...] = ()
) -> RecordingCard:
    """Copy the recording at `path`, which has its card beside it, into the folder `registry`.

    Args:
        path: File of the recording.
        registry: Folder of the clone's registry.
        play: Sentence on who played, instead of the card's.
        limitations: Sentences on what it is not good for, instead of the card's.

    Raises:
        CardError: The card is missing or damaged.
        DatasetError: The recording is damaged.
    """
    recording, card = Recording.read(path), RecordingCard.read(path.with_suffix(".toml"))
    changes = {
        "sources": (f"bundled:recordings/{card.name}{path.suffix}",),
        "returns": returns_of(recording),
        "command": command_of(recording),
        "play": play or card.play,
        "limitations": limitations or card.limitations,
    }
    with atomic_path(registry / "recordings" / f"{card.name}{path.suffix}") as temporary:
        shutil.copyfile(path, temporary)
    bundled = card.model_copy(update=changes)
    bundled.write(registry / "recordings" / f"{card.name}.toml")
    return bundled


def main() -> None:
    """Bundle the recordings named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings", type=Path, nargs="+")
    parser.add_argument("--play")
    parser.add_argument("--limitation", action="append", default=[])
    arguments = parser.parse_args()
    for path in arguments.recordings:
        card = bundle_recording(path, registry_folder(), play=arguments.play, limitations=tuple(arguments.limitation))
        print(f"{card.name}  {card.transitions:,} transitions, {card.bytes:,} bytes, mean return {card.returns}")


if __name__ == "__main__":
    main()
