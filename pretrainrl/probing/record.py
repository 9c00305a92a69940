"""From measurements to cards of the registry: `python -m pretrainrl.probing.record probes/siammae ...`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrainrl.cards import EncoderCard, find_card
from pretrainrl.errors import InputError
from pretrainrl.paths import registry_folder
from pretrainrl.probing.report import FILE, read_metrics

BASELINE = "random"  # what metrics of the baseline start with in the card


def record(folder: Path, registry: Path) -> EncoderCard:
    """Write the numbers of `pretrainrl probe NAME --out folder` into the card of NAME in the folder `registry`.

    The baseline's are written beside them, their names starting with `random_`. Other metrics of the card stay.

    Raises:
        InputError: when the folder holds no measurements, or they are not of a card in `registry`.
    """
    name, *baselines = measured = read_metrics(folder / FILE)
    path = registry / "encoders" / f"{name}.toml"
    if not path.is_file():
        raise InputError(f"{name} has no card in {registry / 'encoders'}")
    if any(find_card(baseline).objective != "random" for baseline in baselines):
        raise InputError(f"cards compare with an untrained encoder, not with {baselines[0]}; probe with --baseline random")
    mine = {key: _round(value) for key, value in measured[name].items()}
    theirs = {f"{BASELINE}_{key}": _round(value) for each in baselines for key, value in measured[each].items()}
    card = EncoderCard.read(path)
    card = card.model_copy(
        update={"metrics": {**card.metrics, **mine, **theirs}, "summary": _summary(card.summary, mine, theirs)}
    )
    card.write(path)
    return card


def _summary(summary: str, mine: dict[str, float], theirs: dict[str, float]) -> str:
    """What the encoder is, and whether features of an untrained one tell a linear probe as much."""
    key = "ram_balanced_accuracy"
    if key not in mine or f"{BASELINE}_{key}" not in theirs:
        return summary
    own, untrained = mine[key], theirs[f"{BASELINE}_{key}"]
    more = "more" if own > untrained else "no more"
    what = summary.split(";")[0]
    return f"{what}; tells a linear probe {more} of the game's state than `random` ({own:.2f} to {untrained:.2f})"


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def main() -> None:
    """Record the measurements in the folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="+", help="of pretrainrl probe --out")
    for folder in parser.parse_args().folder:
        print(record(folder, registry_folder()).name)


if __name__ == "__main__":
    main()
