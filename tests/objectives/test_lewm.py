"""LeWM and its regularizer, by definition and by what they are for."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pretrainrl.errors import InputError
from pretrainrl.networks.losses import gaussianity
from pretrainrl.objectives import make_objective


def epps_pulley(samples: list[float]) -> float:
    """The statistic of one direction, by a plain sum over t in [-3, 3]."""
    step = 3 / 16
    total = 0.0
    for knot in range(-16, 17):
        t = knot * step
        real = sum(math.cos(t * x) for x in samples) / len(samples)
        imaginary = sum(math.sin(t * x) for x in samples) / len(samples)
        width = step / 2 if abs(knot) == 16 else step
        total += width * math.exp(-t * t / 2) * ((real - math.exp(-t * t / 2)) ** 2 + imaginary**2)
    return len(samples) * total


def test_sigreg_by_definition() -> None:
    samples = torch.randn(20, 5)
    torch.manual_seed(3)
    found = gaussianity(samples, 4)
    torch.manual_seed(3)
    directions = torch.randn(5, 4)
    projected = samples @ (directions / directions.norm(dim=0))
    expected = sum(epps_pulley(column.tolist()) for column in projected.T) / 4
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("other", ["collapsed", "shifted", "wide", "on a line", "two points"])
def test_sigreg_is_least_for_standard_normal_samples(other: str) -> None:
    torch.manual_seed(0)
    normal = torch.randn(512, 8)
    samples: Tensor = {
        "collapsed": torch.zeros(512, 8),
        "shifted": normal + 1,
        "wide": 3 * normal,
        "on a line": normal[:, :1].expand(-1, 8),
        "two points": normal.sign(),
    }[other]
    assert gaussianity(samples, 256) > 2 * gaussianity(normal, 256)


def test_gradients_of_sigreg_undo_a_collapse() -> None:
    torch.manual_seed(0)
    samples = (0.01 * torch.randn(256, 4)).requires_grad_()
    optimizer = torch.optim.Adam([samples], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        gaussianity(samples, 64).backward()
        optimizer.step()
    assert (samples.detach().std(0) - 1).abs().max() < 0.25


@pytest.mark.parametrize("ended", [[], [1, 4]])
def test_lewm_by_definition(ended: list[int], real_batch: Any) -> None:
    lewm: Any = make_objective("lewm", encoder="nature", num_games=2, preset="nano", augmentation=False, weight=0.3)
    batch = real_batch(lewm)
    batch.terminations[ended, 0] = True
    torch.manual_seed(1)
    loss, metrics = lewm.loss(batch)

    latents = [lewm.neck(lewm.backbone(batch.observation(t).float() / 255), batch.games) for t in (0, 1)]
    both = torch.cat(latents)
    now, following = ((x - both.mean(0)) / (both.var(0, correction=0) + 1e-5).sqrt() for x in latents)
    errors = []
    for i in range(8):
        if i not in ended:
            action = lewm.actions.weight[18 * batch.games[i] + batch.actions[i, 0]]
            errors.append(((lewm.predictor(torch.cat([now[i], action])) - following[i]) ** 2).mean())
    torch.manual_seed(1)
    sigreg = gaussianity(torch.cat([now, following]), 256)
    torch.testing.assert_close(metrics["prediction"], torch.stack(errors).mean().detach())
    torch.testing.assert_close(loss, torch.stack(errors).mean() + 0.3 * sigreg)


def test_both_observations_get_gradients(real_batch: Any) -> None:
    """Nothing is stopped: the target's embedding learns too."""
    lewm: Any = make_objective("lewm", encoder="nature", num_games=2, preset="nano", augmentation=False)
    seen: Any = []
    lewm.backbone.register_forward_hook(lambda module, args, out: seen.append(out) or out.retain_grad())
    lewm.loss(real_batch(lewm))[0].backward()
    assert seen[0].grad is not None and (seen[0].grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("wrong", [{"weight": 0.0}, {"directions": 0}])
def test_wrong_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="must be positive"):
        make_objective("lewm", encoder="nature", num_games=2, preset="nano", **wrong)
