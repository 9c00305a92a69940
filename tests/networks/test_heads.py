import pytest
import torch

from pretrainrl.errors import InputError
from pretrainrl.networks.heads import GameLinear, GameMLP


@pytest.mark.parametrize("games", [[0, 2, 1, 2, 2], [1, 1, 1], [0]])
@pytest.mark.parametrize("steps", [(), (6,)])
def test_equals_one_linear_layer_per_game(games, steps):
    head = GameLinear(5, 3, num_games=3)
    x = torch.randn(len(games), *steps, 5)
    out = head(x, torch.tensor(games))
    for sample, game in enumerate(games):
        expected = x[sample] @ head.weight[game].view(5, 3) + head.bias[game]
        torch.testing.assert_close(out[sample], expected)


def test_gradient_reaches_only_the_games_of_the_batch():
    head = GameLinear(5, 3, num_games=4)
    head(torch.randn(6, 5), torch.tensor([1, 3, 3, 1, 1, 3])).square().sum().backward()
    for parameter in (head.weight, head.bias):
        assert parameter.grad.abs().sum(dim=1).gt(0).tolist() == [False, True, False, True]


def test_repeated_games_add_their_gradients():
    head = GameLinear(2, 2, num_games=1)
    x = torch.randn(3, 2)
    head(x, torch.zeros(3, dtype=torch.int64)).sum().backward()
    torch.testing.assert_close(head.weight.grad.view(2, 2), x.sum(0)[:, None].expand(2, 2))
    torch.testing.assert_close(head.bias.grad, torch.full((1, 2), 3.0))


def test_initial_scales():
    torch.manual_seed(0)
    head = GameLinear(64, 192, 8)
    assert head.weight.std().item() == pytest.approx((4 / 256) ** 0.5, rel=0.02) and not head.bias.any()


def test_sizes_must_be_positive():
    with pytest.raises(InputError, match="num_games=0"):
        GameLinear(4, 4, 0)


def test_game_mlp_by_definition():
    mlp = GameMLP(5, 7, 3, num_games=3)
    x, games = torch.randn(4, 6, 5), torch.tensor([0, 2, 2, 1])
    out = mlp(x, games)
    for sample, game in enumerate(games):
        hidden = (x[sample] @ mlp.first.weight[game].view(5, 7) + mlp.first.bias[game]).relu()
        torch.testing.assert_close(out[sample], hidden @ mlp.second.weight[game].view(7, 3) + mlp.second.bias[game])
    torch.testing.assert_close(mlp(x[:, 0], games), out[:, 0])
