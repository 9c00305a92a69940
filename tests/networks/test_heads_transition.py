from typing import Any

import torch

from pretrainrl.networks.heads import ActionTransition

GAMES = torch.tensor([2, 0, 2])


def test_equals_a_plain_loop():
    transition = ActionTransition(6, num_actions=4, num_games=3, embedding_width=5)
    latent, actions = torch.randn(3, 6), torch.tensor([[0, 3], [1, 1], [3, 0]])
    rolled = transition(latent, actions, GAMES)
    assert rolled.shape == (3, 2, 6)
    rnn: Any = transition.rnn
    for sample, game in enumerate(GAMES.tolist()):
        hidden = latent[sample]
        for step, action in enumerate(actions[sample].tolist()):
            embedded = transition.actions.weight[game * 4 + action]
            hidden = torch.tanh(rnn.weight_ih_l0 @ embedded + rnn.bias_ih_l0 + rnn.weight_hh_l0 @ hidden + rnn.bias_hh_l0)
            torch.testing.assert_close(rolled[sample, step], hidden)


def test_later_actions_do_not_change_earlier_latents():
    transition = ActionTransition(6, num_actions=4, num_games=3)
    latent, actions = torch.randn(3, 6), torch.zeros(3, 4, dtype=torch.int64)
    changed = actions.clone()
    changed[:, 2] = 1
    before, after = (transition(latent, a, GAMES) for a in (actions, changed))
    assert torch.equal(before[:, :2], after[:, :2]) and not torch.isclose(before[:, 2:], after[:, 2:]).all(-1).any()


def test_computes_in_float32_under_autocast():
    transition = ActionTransition(6, num_actions=4, num_games=3)
    latent, actions = torch.randn(3, 6), torch.tensor([[0, 3], [1, 1], [3, 0]])
    exact = transition(latent, actions, GAMES)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(transition(latent, actions, GAMES), exact)
