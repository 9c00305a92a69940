"""What holds for every registered objective: a new one is tested without a new line here."""

import copy
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import pretrainrl
from pretrainrl.cards import OBJECTIVES
from pretrainrl.data.windows import WindowSpec
from pretrainrl.encoders import make_backbone
from pretrainrl.objectives import Objective, make_objective

BACKBONES: dict[str, Any] = {"impala": {}, "nature": {}, "resnet50": {"width": 1 / 16}}
NAMES = pretrainrl.list_objectives()
OVERFIT_STEPS = 801  # most need 80; momentum targets that hardly tell frames of one game apart at first need longer


def make(name, backbone="nature", num_games=2, **overrides):
    return make_objective(
        name, encoder=make_backbone(backbone, **BACKBONES[backbone]), num_games=num_games, preset="nano", **overrides
    )


def online(objective):
    """Parameters that are trained, by name."""
    return {key: value for key, value in objective.named_parameters() if value.requires_grad}


def test_there_are_objectives():
    assert {"curl", "mae", "atc", "siammae", "r3m", "bc", "spr", "idm", "spr_idm", "dt", "cql_m", "cql_d"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_works_with_every_backbone(name, backbone, real_batch):
    objective = make(name, backbone)
    loss, metrics = objective.loss(real_batch(objective))
    loss.backward()
    assert isinstance(objective, Objective) and isinstance(objective.window, WindowSpec)
    assert loss.dtype == torch.float32 and loss.shape == () and loss.isfinite()
    assert metrics and all(m.shape == () and m.isfinite() and not m.requires_grad for m in metrics.values())
    for key, parameter in online(objective).items():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    for parameter in objective.backbone.parameters():
        assert parameter.requires_grad and parameter.grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_targets_get_no_gradient_and_move_only_after_a_step(name, real_batch):
    objective = make(name)
    targets = {key: value for key, value in objective.named_parameters() if not value.requires_grad}
    assert all("target" in key for key in targets)
    before = {key: value.clone() for key, value in targets.items()}
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    loss, _ = objective.loss(real_batch(objective))
    loss.backward()
    optimizer.step()
    assert all(value.grad is None and torch.equal(value, before[key]) for key, value in targets.items())
    objective.after_step(0.0)
    assert all(not torch.equal(value, before[key]) for key, value in targets.items() if "weight" in key)
    assert all(value.training for value in objective.modules())


@pytest.mark.parametrize("name", NAMES)
def test_overfits_one_real_batch(name, real_batch):
    objective = make(name, augmentation=False)
    batch = real_batch(objective)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-3)

    def mean_loss():
        """How far the loss is above what it can be at best, where a target has an entropy of its own."""
        with torch.no_grad():
            losses = [objective.loss(batch) for _ in range(4)]
        return sum(loss.item() - metrics.get("target_entropy", 0.0) for loss, metrics in losses) / 4

    before = mean_loss()
    for step in range(OVERFIT_STEPS):
        if step % 40 == 0 and mean_loss() < 0.5 * before:
            return
        loss, _ = objective.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(0.0)
    pytest.fail(f"from {before:.3f} to {mean_loss():.3f} only")


@pytest.mark.parametrize("name", NAMES)
def test_is_a_function_of_weights_batch_and_seed(name, real_batch):
    objective = make(name)
    twin, batch = copy.deepcopy(objective), real_batch(objective)
    losses = []
    for seed, one in ((1, objective), (1, twin), (2, objective)):
        torch.manual_seed(seed)
        one.zero_grad()
        loss, _ = one.loss(batch)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == losses[1] != losses[2]
    torch.manual_seed(1)
    objective.zero_grad()
    objective.loss(batch)[0].backward()
    for ours, theirs in zip(online(objective).values(), online(twin).values(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", NAMES)
def test_runs_in_bfloat16_autocast(name, real_batch):
    objective = make(name, "impala").to(memory_format=torch.channels_last)
    batch = real_batch(objective)
    torch.manual_seed(1)
    exact, _ = objective.loss(batch)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        loss, metrics = objective.loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert loss.dtype == torch.float32 and all(value.isfinite() for value in metrics.values())
    for key, parameter in online(objective).items():
        assert parameter.dtype == torch.float32 and parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", NAMES)
def test_one_game_and_many_games(name, real_batch):
    objective = make(name, num_games=5)
    batch = real_batch(objective)
    for games in (torch.full_like(batch.games, 3), torch.arange(len(batch.games)) % 5):
        batch.games = games
        objective.zero_grad()
        objective.loss(batch)[0].backward()
        per_game = [p.grad for key, p in online(objective).items() if key.endswith("embedding.weight")]
        assert per_game
        for gradient in per_game:
            assert gradient.flatten(1).any(1).nonzero().flatten().tolist() == games.unique().tolist()


@pytest.mark.parametrize("name", NAMES)
def test_reconstructions_are_pictures(name, real_batch):
    objective = make(name)
    batch = real_batch(objective)
    images = objective.reconstruct(batch)
    if images is not None:
        assert images.shape == (8, 3, 84, 84) and not images.requires_grad
        assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_presets_build(name):
    presets = OBJECTIVES.get(name).presets
    assert set(presets) == {"nano", "paper"}
    for preset, settings in presets.items():
        options: dict[str, Any] = {"width": 1 / 16} if settings.backbone == "resnet50" else {}
        backbone = make_backbone(settings.backbone, **options)
        objective = make_objective(name, encoder=backbone, num_games=2, preset=preset)
        assert objective.backbone is backbone


@pytest.mark.parametrize("name", NAMES)
def test_nano_stays_within_its_budget(name, real_batch):
    """3 M parameters beside the backbone for 15 games; half a training pass per observation beside the backbone's."""
    objective = make(name, "impala", num_games=15)
    batch = real_batch(objective, 2)
    trained = sum(p.numel() for key, p in online(objective).items() if not key.startswith("backbone."))
    assert trained < 3e6
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        objective.backbone(torch.zeros(1, 4, 84, 84))
    with FlopCounterMode(display=False) as step:
        objective.loss(batch)[0].backward()
    observations = objective.window.future + 1
    assert step.get_total_flops() / 2 < 1.5 * 3 * observations * forward.get_total_flops()  # backward costs two forwards
