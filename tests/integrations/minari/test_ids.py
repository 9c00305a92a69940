"""Ids of datasets."""

import pytest

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.integrations.minari import dataset_id


def test_ids_of_games() -> None:
    assert dataset_id("ms_pacman", "expert", 3) == "pretrainrl/atari/mspacman-expert-v3"
    with pytest.raises(UnknownNameError, match="breakout"):
        dataset_id("breakuot")
    with pytest.raises(InputError, match="not a dataset id"):
        dataset_id("pong", "ran dom")
