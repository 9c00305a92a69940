"""Each loss against its definition, put together from its parts by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pretrainrl.data.augment import augment
from pretrainrl.networks.masked_autoencoder import mask_from_scores
from pretrainrl.objectives import make_objective


def make(name, **overrides):
    return make_objective(name, encoder="nature", num_games=2, preset="nano", **overrides)


@pytest.mark.parametrize("normalize", [False, True])
def test_curl_by_definition(normalize, real_batch):
    curl = make("curl", temperature=0.5, normalize=normalize)
    torch.nn.init.normal_(curl.target_neck.mlp[0].weight, std=0.1)  # targets differ from the online network
    batch = real_batch(curl)
    torch.manual_seed(1)
    loss, metrics = curl.loss(batch)
    torch.manual_seed(1)
    first, second = augment(batch.observation()), augment(batch.observation())
    assert not torch.equal(first, second)
    queries = curl.head(curl.neck(curl.backbone(first), batch.games), batch.games)
    keys = curl.target_neck(curl.target_backbone(second), batch.games)
    if normalize:
        queries, keys = queries / queries.norm(dim=1, keepdim=True), keys / keys.norm(dim=1, keepdim=True)
    probabilities = (queries @ keys.T / 0.5).softmax(dim=1)
    torch.testing.assert_close(loss, -probabilities.diag().log().mean())
    assert metrics["accuracy"] == (probabilities.argmax(1) == torch.arange(8)).float().mean()


def test_bc_by_definition(real_batch):
    bc = make("bc", augmentation=False)
    batch = real_batch(bc)
    loss, metrics = bc.loss(batch)
    logits = bc.head(bc.neck(bc.backbone(batch.observation().float() / 255), batch.games), batch.games)
    assert logits.shape == (8, 18)
    torch.testing.assert_close(loss, -logits.log_softmax(1)[torch.arange(8), batch.actions[:, 0]].mean())
    assert metrics["accuracy"] == (logits.argmax(1) == batch.actions[:, 0]).float().mean()


def test_idm_by_definition(real_batch):
    idm = make("idm", augmentation=False)
    batch = real_batch(idm)
    loss, metrics = idm.loss(batch)
    now, after = (idm.neck(idm.backbone(batch.observation(i).float() / 255), batch.games) for i in (0, 1))
    logits = idm.head(torch.cat([now, after], dim=1), batch.games)
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch.actions[:, 0]))
    assert metrics["accuracy"] == (logits.argmax(1) == batch.actions[:, 0]).float().mean()
    assert logits.shape == (8, 18)


def test_idm_ignores_terminal_transitions(real_batch):
    idm = make("idm", augmentation=False)
    batch = real_batch(idm)
    batch.terminations[2] = batch.terminations[5] = True
    loss, _ = idm.loss(batch)
    batch.actions[[2, 5]] = (batch.actions[[2, 5]] + 1) % 18
    assert idm.loss(batch)[0] == loss
    batch.actions[3] = (batch.actions[3] + 1) % 18
    assert idm.loss(batch)[0] != loss


def test_idm_augments_the_two_observations_separately(real_batch):
    idm = make("idm")
    batch = real_batch(idm)
    batch.frames[:, 1:] = batch.frames[:, :1]  # equal observations
    seen = []
    idm.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    idm.loss(batch)
    now, after = seen[0].chunk(2)
    assert not any(torch.equal(a, b) for a, b in zip(now, after, strict=True))


def test_mae_by_definition(real_batch):
    mae = make("mae", augmentation=False)
    batch = real_batch(mae)
    mask = mask_from_scores(torch.rand(8, 49), keep=4)
    loss, _ = mae.loss(batch, mask)
    image = batch.observation().float() / 255
    visible = mae.encoder(mae.backbone(image), batch.games, mask)
    assert visible.shape[1] == 5
    painted = mae.decoder(visible, mask, batch.games)
    torch.testing.assert_close(loss, ((painted - image) ** 2).mean())


def test_mae_does_not_augment_its_target(real_batch):
    mae = make("mae")
    batch = real_batch(mae)
    torch.testing.assert_close(mae.reconstruct(batch)[:, 0], batch.frames[:, -1].float() / 255)


def test_siammae_by_definition(real_batch):
    siammae = make("siammae", augmentation=False)
    batch = real_batch(siammae)
    mask = mask_from_scores(torch.rand(8, 49), keep=2)
    torch.manual_seed(1)
    loss, _ = siammae.loss(batch, mask)
    torch.manual_seed(1)
    gaps = torch.randint(1, 4, (8,))
    future = torch.stack([batch.frames[i, gap : gap + 4] for i, gap in enumerate(gaps)]).float() / 255
    past = batch.frames[:, :4].float() / 255
    context = siammae.encoder(siammae.backbone(past), batch.games)
    visible = siammae.encoder(siammae.backbone(future), batch.games, mask)
    assert context.shape[1] == 50 and visible.shape[1] == 3
    painted = torch.sigmoid(siammae.decoder(visible, mask, batch.games, context))
    torch.testing.assert_close(loss, ((painted - future) ** 2).mean())


def test_siammae_draws_every_gap_and_does_not_augment_its_target(real_batch):
    siammae = make("siammae")
    batch = real_batch(siammae)
    assert batch.frames.shape[1] == 7
    batch.frames[:] = torch.arange(7, dtype=torch.uint8).view(1, 7, 1, 1)
    newest = {round(images[0, 0, 0].item() * 255) for _ in range(8) for images in siammae.reconstruct(batch)}
    assert newest == {4, 5, 6}


@pytest.mark.parametrize(
    ("name", "backbone", "kept"),
    [("siammae", "impala", 1), ("siammae", "nature", 2), ("mae", "impala", 3), ("mae", "nature", 4)],
)
def test_the_paper_keeps_this_many_tokens_and_shows_them(name, backbone, kept, real_batch):
    small: dict[str, Any] = {"neck_widths": (32,), "encoder_depth": 1, "decoder_depth": 1, "mlp_width": 32}
    masked: Any = make_objective(name, encoder=backbone, num_games=2, **small)
    batch = real_batch(masked)
    shown = masked.reconstruct(batch)[:, :2]
    patch = 84 // masked.encoder.grid
    hidden = F.max_pool2d((shown[:, 1:] != 0.5).float(), patch) == 0
    assert hidden.flatten(1).sum(1).tolist() == [masked.encoder.grid**2 - kept] * 8
    visible = ~hidden.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    assert torch.equal(shown[:, 1:][visible], shown[:, :1][visible])
