"""Losses of a batch that is spread over two real processes against those of the whole batch in one."""

import pytest
import torch
from processes import LOSSES, WORLD, in_processes, loss_values, loss_values_of_a_share

from pretrainrl.networks.losses import gather

# Ignored samples are spread unevenly: the processes count 1 and 3 of their 4.
IGNORE = torch.tensor([True, False, True, False, True, True, False, False])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    torch.manual_seed(0)
    inputs = list(torch.randn(3, 8, 5).unbind())
    return loss_values(inputs, IGNORE), in_processes(
        loss_values_of_a_share, tmp_path_factory.mktemp("processes"), inputs, IGNORE
    )


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_equal_those_of_one_process(name, results):
    whole, shares = results[0][name], [share[name] for share in results[1]]
    for share in shares:
        torch.testing.assert_close(share[:2], whole[:2])  # every process returns the loss and metric of the whole batch
    assert whole[2].any()
    for ours, theirs in zip(zip(*shares, strict=True), whole, strict=True):
        if theirs.dim():
            spread = torch.stack(ours, dim=1).flatten(0, 1)  # back in the order of the whole batch
            torch.testing.assert_close(spread / WORLD, theirs)  # DistributedDataParallel averages


def test_gather_in_one_process_is_free():
    part = torch.randn(3, 2)
    assert gather(part) is part
