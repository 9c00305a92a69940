"""Heads with separate weights for every game."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrainrl.errors import InputError


class GameLinear(nn.Module):
    """Linear layer with its own weight and bias for each game.

    Row g of `weight` is game g's (in_features, out_features) matrix, flattened; row g of `bias` its (out_features,) vector.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        num_games: Number of games.

    Each game's matrix starts Xavier-normal with ReLU gain, and its bias at 0. Atari-PB draws both from N(0, 1),
    but for the reconstruction's head; outputs so large drive small backbones towards features without variance.

    Raises:
        InputError: When a size is not positive.
    """

    def __init__(self, in_features: int, out_features: int, num_games: int) -> None:
        super().__init__()
        if min(in_features, out_features, num_games) < 1:
            raise InputError(f"GameLinear needs positive sizes, got {in_features=}, {out_features=}, {num_games=}")
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(num_games, in_features * out_features))
        self.bias = nn.Parameter(torch.empty(num_games, out_features))
        nn.init.normal_(self.weight, std=(4 / (in_features + out_features)) ** 0.5)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, games: Tensor) -> Tensor:
        """Apply each sample's game's layer.

        Args:
            x: Input (B, in_features) or (B, T, in_features).
            games: Game of each sample, (B,) int64 in [0, num_games).

        Returns:
            (B, out_features) or (B, T, out_features); float32 under autocast, since the bias is added in float32.
        """
        # F.embedding rather than indexing: its backward is a deterministic segment sum on every device.
        weight = F.embedding(games, self.weight).view(-1, self.in_features, self.out_features)
        bias = F.embedding(games, self.bias)
        if x.dim() == 2:
            return torch.bmm(x.unsqueeze(1), weight).squeeze(1) + bias
        return torch.bmm(x, weight) + bias.unsqueeze(1)


class GameMLP(nn.Module):
    """Two game-wise linear layers with a ReLU between them.

    Args:
        in_features: Width of the input.
        hidden: Width between the layers.
        out_features: Width of the output.
        num_games: Number of games.
    """

    def __init__(self, in_features: int, hidden: int, out_features: int, num_games: int) -> None:
        super().__init__()
        self.first = GameLinear(in_features, hidden, num_games)
        self.second = GameLinear(hidden, out_features, num_games)

    def forward(self, x: Tensor, games: Tensor) -> Tensor:
        """Map (B, in_features) or (B, T, in_features) of games (B,) to (B, out_features) or (B, T, out_features)."""
        mapped: Tensor = self.second(self.first(x, games).relu(), games)
        return mapped


class ActionTransition(nn.Module):
    """Tanh RNN that starts from a latent and is driven by embedded actions.

        h_0 = latent,   h_i = tanh(W e(g, a_i-1) + b + U h_i-1 + c),   e an embedding of the game's action

    Args:
        width: Width D of the latents.
        num_actions: Number of actions of each game.
        num_games: Number of games.
        embedding_width: Width of the embedding e.
    """

    def __init__(self, width: int, num_actions: int, num_games: int, embedding_width: int = 18) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.actions = nn.Embedding(num_games * num_actions, embedding_width)
        self.rnn = nn.RNN(embedding_width, width, batch_first=True)

    def forward(self, latent: Tensor, actions: Tensor, games: Tensor) -> Tensor:
        """Roll the latents forward.

        Args:
            latent: Latents (B, D) float.
            actions: Actions (B, K) int64, in [0, num_actions).
            games: Game of each sample, (B,) int64 in [0, num_games).

        Returns:
            (B, K, D) float32 in [-1, 1], the latents after each action.
        """
        embedded = self.actions(actions + self.num_actions * games[:, None])
        with torch.autocast(latent.device.type, enabled=False):  # nn.RNN takes no mixture of precisions
            rolled: Tensor = self.rnn(embedded.float(), latent.float().unsqueeze(0))[0]
        return rolled
