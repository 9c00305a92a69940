import pytest
import torch

from pretrainrl.networks.masked_autoencoder import mask_from_scores, patchify, show_visible, unpatchify


@pytest.mark.parametrize("keep", [1, 3, 35, 36])
def test_kept_tokens_return_to_their_places(keep):
    torch.manual_seed(0)
    tokens = torch.randn(5, 36, 4)
    mask = mask_from_scores(torch.rand(5, 36), keep)
    hidden_token = torch.full((1, 1, 4), 9.0)
    restored = mask.fill(mask.keep(tokens), hidden_token)
    hidden = mask.hidden()
    assert hidden.sum(1).tolist() == [36 - keep] * 5
    assert torch.equal(restored[~hidden], tokens[~hidden])
    assert (restored[hidden] == 9).all()


def test_keep_everything_is_the_identity():
    tokens = torch.randn(3, 10, 2)
    mask = mask_from_scores(torch.rand(3, 10), 10)
    assert torch.equal(mask.fill(mask.keep(tokens), torch.zeros(1, 1, 2)), tokens)


def test_lowest_scores_are_kept():
    mask = mask_from_scores(torch.tensor([[0.9, 0.1, 0.5, 0.3]]), keep=2)
    assert mask.visible.tolist() == [[1, 3]]
    assert mask.restore.tolist() == [[3, 0, 2, 1]]


def test_replays_a_permutation():
    permutation = torch.stack([torch.randperm(36) for _ in range(4)])
    assert torch.equal(mask_from_scores(permutation, 5).restore, permutation)


def test_every_place_is_equally_often_visible():
    torch.manual_seed(0)
    counts = mask_from_scores(torch.rand(36_000, 36), keep=1).visible.flatten().bincount(minlength=36)
    assert counts.min() > 850 and counts.max() < 1150  # expected 1000, standard deviation 31


@pytest.mark.parametrize(("grid", "channels"), [(6, 4), (7, 1), (6, 3)])
def test_unpatchify_inverts_patchify(grid, channels):
    images = torch.randn(2, channels, 84, 84)
    patches = patchify(images, grid)
    assert patches.shape == (2, grid * grid, channels * (84 // grid) ** 2)
    assert torch.equal(unpatchify(patches, channels), images)


def test_patches_are_in_raster_order_with_channel_row_column_inside():
    images = torch.randn(1, 4, 84, 84)
    patch = patchify(images, 6)[0, 6 * 2 + 5]  # third row, last column
    assert torch.equal(patch, images[0, :, 28:42, 70:84].flatten())


def test_show_visible_greys_what_is_hidden():
    images = torch.rand(2, 1, 84, 84)
    mask = mask_from_scores(torch.rand(2, 36), keep=4)
    shown = show_visible(images, mask)
    for sample in range(2):
        for place in range(36):
            row, column = 14 * (place // 6), 14 * (place % 6)
            region = (sample, 0, slice(row, row + 14), slice(column, column + 14))
            if place in mask.visible[sample].tolist():
                assert torch.equal(shown[region], images[region])
            else:
                assert (shown[region] == 0.5).all()
