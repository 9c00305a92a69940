import pytest
import torch
import torch.nn.functional as F

from pretrainrl.errors import InputError
from pretrainrl.networks.masked_autoencoder import PixelDecoder, TokenEncoder, mask_from_scores, unpatchify
from pretrainrl.networks.necks import SpatialMLP, SpatialTokens

GAMES = torch.tensor([2, 0, 2])


def test_spatial_mlp_by_definition():
    neck = SpatialMLP((5, 3, 4), num_games=3, widths=(7, 6))
    feature_map = torch.randn(3, 5, 3, 4)
    latents = neck(feature_map, GAMES)
    for sample, game in enumerate(GAMES):
        weights = neck.embedding.weight[game].view(5, 3, 4)
        pooled = F.layer_norm((feature_map[sample] * weights).mean((1, 2)), (5,))
        expected = neck.mlp[2](neck.mlp[0](pooled).relu()).relu()
        torch.testing.assert_close(latents[sample], expected)
    assert latents.shape == (3, neck.out_features) and (latents >= 0).all()


def test_spatial_tokens_by_definition():
    neck = SpatialTokens((5, 6, 6), num_games=3, widths=(7, 8))
    feature_map = torch.randn(3, 5, 6, 6)
    tokens = neck(feature_map, GAMES)
    for sample, game in enumerate(GAMES):
        for place in range(36):
            at = (slice(None), place // 6, place % 6)
            weighed = feature_map[sample][at] * neck.embedding.weight[game].view(5, 6, 6)[at]
            torch.testing.assert_close(tokens[sample, place], neck.mlp(weighed))


@pytest.mark.parametrize(("shape", "grid"), [((4, 6, 6), 6), ((4, 7, 7), 7), ((4, 11, 11), 6), ((4, 12, 12), 12)])
def test_maps_are_halved_only_when_their_side_does_not_divide_the_frame(shape, grid):
    neck = SpatialTokens(shape, num_games=3, widths=(8,))
    assert neck.grid == grid
    assert neck(torch.randn(3, *shape), GAMES).shape == (3, grid * grid, 8)
    assert (neck.embedding.num_embeddings, neck.embedding.embedding_dim) == (3, 4 * grid * grid)


@pytest.mark.parametrize("shape", [(4, 10, 10), (4, 6, 7)])
def test_maps_that_cannot_be_cut_into_patches_are_refused(shape):
    with pytest.raises(InputError, match="cannot be cut"):
        SpatialTokens(shape, num_games=1)


def test_widths_must_be_positive():
    with pytest.raises(InputError, match="positive widths"):
        SpatialMLP((4, 6, 6), 1, widths=())


def test_token_encoder_with_everything_visible_equals_no_mask_up_to_order():
    encoder = TokenEncoder((5, 6, 6), 3, widths=(8,), depth=2, mlp_width=16)
    torch.nn.init.normal_(encoder.cls_token)
    feature_map = torch.randn(3, 5, 6, 6)
    mask = mask_from_scores(torch.rand(3, 36), keep=36)
    plain, permuted = encoder(feature_map, GAMES), encoder(feature_map, GAMES, mask)
    torch.testing.assert_close(permuted[:, 0], plain[:, 0])
    torch.testing.assert_close(mask.fill(permuted[:, 1:], torch.zeros(1, 1, 8)), plain[:, 1:])


def test_token_encoder_does_not_see_hidden_tokens():
    encoder = TokenEncoder((5, 6, 6), 3, widths=(8,), depth=2, mlp_width=16)
    mask = mask_from_scores(torch.rand(3, 36), keep=4)
    feature_map = torch.randn(3, 5, 6, 6)
    changed = torch.where(mask.hidden().view(3, 1, 6, 6), torch.randn(3, 5, 6, 6), feature_map)
    encoded = encoder(feature_map, GAMES, mask)
    assert encoded.shape == (3, 5, 8)
    assert torch.equal(encoded, encoder(changed, GAMES, mask))


@pytest.mark.parametrize("cross", [False, True])
def test_pixel_decoder_by_definition(cross):
    decoder = PixelDecoder(6, 8, 3, depth=2, mlp_width=16, cross=cross)
    torch.nn.init.normal_(decoder.mask_token)
    mask = mask_from_scores(torch.rand(3, 36), keep=2)
    tokens, context = torch.randn(3, 3, 8), torch.randn(3, 37, 8) if cross else None
    images = decoder(tokens, mask, GAMES, context)
    for sample, game in enumerate(GAMES):
        row = [decoder.mask_token[0, 0]] * 36
        for position, place in enumerate(mask.visible[sample].tolist()):
            row[place] = decoder.embed(tokens[sample, 1 + position])
        full = torch.stack([decoder.embed(tokens[sample, 0]), *row]) + decoder.positions
        other = None if context is None else (decoder.embed(context[sample]) + decoder.positions)[None]
        decoded = decoder.transformer(full[None], other)[:, 1:]
        patches = decoded @ decoder.pixels.weight[game].view(8, 784) + decoder.pixels.bias[game]
        torch.testing.assert_close(images[sample], unpatchify(patches, 4)[0])


def test_constant_positions_are_not_saved():
    encoder, decoder = TokenEncoder((5, 6, 6), 3, widths=(8,)), PixelDecoder(6, 8, 3)
    assert not [key for key in (*encoder.state_dict(), *decoder.state_dict()) if "positions" in key]
    assert not decoder.positions[0].any() and torch.equal(decoder.positions[1:], encoder.positions)
