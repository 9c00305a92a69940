"""Gradients of two processes that share a batch against those of one process with all of it."""

from typing import Any

import pytest
import torch
from processes import gradients_of_shares, in_processes, objective_gradients

import pretrainrl
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.objectives import make_objective

# Masks are drawn anew in every process, so only objectives without them can be compared.
NAMES = [name for name in pretrainrl.list_objectives() if name not in {"mae", "siammae"}]


@pytest.fixture(scope="module")
def batches(frame_cache):
    made: dict[str, Any] = {}
    for name in NAMES:
        window = make_objective(name, encoder="nature", num_games=2, preset="nano").window
        made[name] = batch = WindowSampler(frame_cache, window, 8, seed=0).batch(0)
        batch.terminations[[0, 2, 3], -1:] = True  # two in one process, one in the other
    return made


@pytest.fixture(scope="module")
def shares(batches, tmp_path_factory):
    return in_processes(gradients_of_shares, tmp_path_factory.mktemp("processes"), batches)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_those_of_one_process(name, batches, shares):
    whole = objective_gradients(name, batches[name])
    loss = whole.pop("loss")
    torch.testing.assert_close(sum(share[name].pop("loss") for share in shares) / 2, loss)
    scale = max(value.abs().max() for value in whole.values())
    assert scale > 0
    for share in shares:
        assert share[name].keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(share[name][key], value, rtol=1e-4, atol=1e-6 * float(scale), msg=key)
