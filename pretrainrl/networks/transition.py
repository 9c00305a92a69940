"""A recurrent model of how actions change a latent."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ActionTransition(nn.Module):
    """Tanh RNN that starts from a latent and is driven by embedded actions.

        h_0 = latent,   h_i = tanh(W e(g, a_i-1) + b + U h_i-1 + c),   e an embedding of the game's action

    Args:
        width: D of the latents.
        num_actions: Actions of each game.
        num_games: Number of games.
        embedding_width: Of e.
    """

    def __init__(self, width: int, num_actions: int, num_games: int, embedding_width: int = 18) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.actions = nn.Embedding(num_games * num_actions, embedding_width)
        self.rnn = nn.RNN(embedding_width, width, batch_first=True)

    def forward(self, latent: Tensor, actions: Tensor, games: Tensor) -> Tensor:
        """Roll the latents forward.

        Args:
            latent: (B, D) float.
            actions: (B, K) int64, in [0, num_actions).
            games: (B,) int64, in [0, num_games).

        Returns:
            (B, K, D) float32 in [-1, 1], the latents after each action.
        """
        embedded = self.actions(actions + self.num_actions * games[:, None])
        with torch.autocast(latent.device.type, enabled=False):  # nn.RNN takes no mixture of precisions
            rolled: Tensor = self.rnn(embedded.float(), latent.float().unsqueeze(0))[0]
        return rolled
