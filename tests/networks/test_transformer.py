import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pretrainrl.errors import InputError
from pretrainrl.networks.transformer import (
    CrossAttention,
    SelfAttention,
    Transformer,
    sincos_positions,
    sincos_positions_2d,
)

WIDTH, HEADS = 16, 4


def torch_attention(query, key, value, out):
    """`nn.MultiheadAttention` with copied projections."""
    reference = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([query, key, value]))
        reference.in_proj_bias.zero_()
        reference.out_proj.weight.copy_(out.weight)
        reference.out_proj.bias.copy_(out.bias)
    return reference


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_equals_torch(causal):
    ours = SelfAttention(WIDTH, HEADS)
    nn.init.normal_(ours.norm.weight)
    query, key, value = ours.qkv.weight.chunk(3)
    reference = torch_attention(query, key, value, ours.out)
    tokens = torch.randn(3, 7, WIDTH)
    normed = ours.norm(tokens)
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None
    expected, _ = reference(normed, normed, normed, attn_mask=hidden)
    torch.testing.assert_close(ours(tokens, causal=causal), expected)


def test_cross_attention_equals_torch_and_leaves_its_context_unnormalised():
    ours = CrossAttention(WIDTH, HEADS)
    reference = torch_attention(ours.query.weight, ours.key.weight, ours.value.weight, ours.out)
    tokens, context = torch.randn(3, 7, WIDTH), 5 + torch.randn(3, 9, WIDTH)
    expected, _ = reference(ours.norm(tokens), context, context)
    torch.testing.assert_close(ours(tokens, context), expected)


@pytest.mark.parametrize("cross", [False, True])
def test_transformer_is_residual_blocks_and_a_norm(cross):
    transformer: Any = Transformer(2, WIDTH, HEADS, 32, cross=cross)
    x, context = torch.randn(3, 7, WIDTH), torch.randn(3, 9, WIDTH) if cross else None
    out = transformer(x, context)
    for block in transformer.blocks:
        if cross:
            x = x + block.cross(x, context)
        x = x + block.attention(x)
        norm, first, _, second = block.mlp
        x = x + F.linear(F.gelu(F.linear(norm(x), first.weight, first.bias)), second.weight, second.bias)
    torch.testing.assert_close(out, F.layer_norm(x, (WIDTH,)))


def test_causal_transformer_does_not_see_later_tokens():
    transformer = Transformer(3, WIDTH, HEADS, 32)
    tokens = torch.randn(2, 8, WIDTH)
    changed = tokens.clone()
    changed[:, 5:] = torch.randn(2, 3, WIDTH)
    before, after = (transformer(x, causal=True) for x in (tokens, changed))
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.isclose(before[:, 5:], after[:, 5:]).all(-1).any()


def test_one_dimensional_positions_by_definition():
    table = sincos_positions(torch.arange(24), 8)
    for position in range(24):
        angles = [position / 10000 ** (i / 4) for i in range(4)]
        expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(table[position], torch.tensor(expected))


def test_two_dimensional_positions_code_the_column_first():
    table = sincos_positions_2d(3, 5, 8)
    for row in range(3):
        for column in range(5):
            expected = sincos_positions(torch.tensor([column, row]), 4).flatten()
            torch.testing.assert_close(table[row * 5 + column], expected)
    assert len(table.unique(dim=0)) == 15


def test_widths_must_fit():
    with pytest.raises(InputError, match="18 is not a multiple of its 4 heads"):
        Transformer(1, 18, 4, 32)
    with pytest.raises(InputError, match="multiple of 4"):
        sincos_positions_2d(6, 6, 18)
