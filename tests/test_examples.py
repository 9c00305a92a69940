"""Every example runs, at toy size, as a user starts it."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))

# What an example has to print for its main claim to hold.
SAYS = {
    "load_dataset_with_minari": ["as stacks: (", "environment: ALE/Breakout-v5"],
    "pretrain_your_own": [
        "transitions of breakout, spaceinvaders",
        "(2, 4, 84, 84) uint8 -> map (2, 32, 11, 11) -> (2, 3872)",
    ],
    "register_your_own_encoder": ["registered: mine.tinyconv", "keeps the contract", "(8, 1944) float16"],
    "your_own_game": ["the game shows (4, 84, 84), the agent sees FeatureSpace((3872,)", "loaded again, mean reward"],
    "sb3_frozen_encoder": ["of the encoder: nothing", "FeatureSpace((3872,), float16, siammae", "encoder in front of it:"],
}


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(path), "--fast"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert [text for text in SAYS[path.stem] if text not in result.stdout] == [], result.stdout


def test_examples_say_what_they_show() -> None:
    assert {path.stem for path in EXAMPLES} == set(SAYS)
    for path in EXAMPLES:
        docstring = path.read_text(encoding="utf-8").split('"""')[1]
        assert f"python examples/{path.name}" in docstring, path.name
