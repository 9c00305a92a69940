"""The pre-training loop tells of a collapse."""

import warnings
from pathlib import Path

import pytest

import pretrainrl
from pretrainrl.integrations.minari import collect_dataset, dataset_id
from pretrainrl.probing import probes as health

NAME = dataset_id("pong", "collapse")


@pytest.fixture(scope="module", autouse=True)
def _dataset() -> None:
    collect_dataset("pong", steps=64, n_envs=2, kind="collapse")


def train(out: Path, steps: int) -> list[str]:
    """Messages of a run."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pretrainrl.pretrain("idm", [NAME], backbone="nature", steps=steps, batch_size=4, out=out, progress=False)
    return [str(item.message) for item in caught if item.category is RuntimeWarning]


def test_a_healthy_run_is_not_warned_of(tmp_path: Path):
    assert not [message for message in train(tmp_path / "run", 21) if "collapsed" in message]


def test_a_collapse_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "COLLAPSED", 2.0)  # so that every run seems to
    told = [message for message in train(tmp_path / "run", 21) if "collapsed" in message]  # two rows are logged
    assert len(told) == 1 and "at step 20" in told[0]
