"""DT: the network predicts actions from earlier observations and actions and from the return that followed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretrainrl.data.windows import Batch, Returns, WindowSpec
from pretrainrl.errors import InputError
from pretrainrl.networks.heads import GameLinear
from pretrainrl.networks.losses import masked_cross_entropy
from pretrainrl.networks.necks import SpatialMLP
from pretrainrl.networks.transformer import Transformer, sincos_positions
from pretrainrl.objectives.objective import Objective, feature_std

STEPS = 8


class DT(Objective):
    """Decision transformer (Chen et al., 2021, https://arxiv.org/abs/2106.01345; here as in Atari-PB).

        loss = cross-entropy(H_g x_i, a_i), mean over i = t..t+7 and samples, with x_i the transformer's output at state i
        tokens: R_t, N_g B(A o_t), a_t, R_t+1, ..., a_t+7, plus 1-D sin-cos positions; each sees itself and earlier ones

    with observations (B, 8, 4, 84, 84) of one augmentation A a window, backbone B, neck N_g and linear head H_g of the
    sample's game g, and returns-to-go R: the undiscounted sum of the signs of rewards until the episode's end, times
    `return_scale`, through a linear layer. Actions have one embedding, which all games share. Windows start at every
    transition; the steps that they lack at an episode's end do not count.

    Differs from the original: 8 steps instead of 30 or 50, positions within the window instead of learned time steps, no
    LayerNorm on embeddings, and fixed positions. Differs from Atari-PB's code (https://arxiv.org/abs/2406.06037): windows
    and returns end with the episode.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        num_actions: Number of the head's actions; Atari has 18.
        neck_widths: Widths of the neck's linear layers; the last is the transformer's width.
        depth: Number of transformer blocks.
        heads: Number of attention heads.
        mlp_width: Hidden width of the transformer's feed-forward layers.
        return_scale: Factor of the returns-to-go.
        augmentation: Whether inputs are shifted and varied in intensity.

    Raises:
        InputError: When the transformer's width is odd or not a multiple of `heads`, and as for `Objective`.
    """

    window = WindowSpec(future=STEPS - 1, steps=STEPS, returns=Returns(), cut=True)

    positions: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        *,
        num_actions: int = 18,
        neck_widths: Sequence[int] = (1024, 512),
        depth: int = 4,
        heads: int = 4,
        mlp_width: int = 2048,
        return_scale: float = 0.01,
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, augmentation=augmentation)
        self.neck = SpatialMLP(self.feature_map_shape, num_games, neck_widths)
        width = self.neck.out_features
        if width % 2:
            raise InputError(f"the transformer's width must be even, got {width}")
        self.embed_return = nn.Linear(1, width)
        self.embed_action = nn.Embedding(num_actions, width)
        self.transformer = Transformer(depth, width, heads, mlp_width)
        self.head = GameLinear(width, num_actions, num_games)
        self.register_buffer("positions", sincos_positions(torch.arange(3 * STEPS), width), persistent=False)
        self.num_actions = num_actions
        self.return_scale = return_scale

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict the actions of up to 8 steps; metrics: `accuracy`, `feature_std`."""
        stacks = self.view(batch.frames).unfold(1, batch.stack, 1).movedim(-1, 2)  # (B, 8, 4, 84, 84)
        features = self.backbone(stacks.flatten(0, 1))
        states = self.neck(features, batch.games.repeat_interleave(STEPS)).unflatten(0, (-1, STEPS))
        logits = self.sequence_scores(states, batch.actions, batch.returns, batch.games)
        loss, accuracy = masked_cross_entropy(logits.flatten(0, 1), batch.actions.flatten(), ~batch.taken.flatten())
        first = features[::STEPS]  # always an observation of the episode
        return loss, {"accuracy": accuracy, "feature_std": feature_std(first)}

    def states(self, observations: Tensor, games: Tensor) -> Tensor:
        """Map observations (B, 4, 84, 84) uint8 of games (B,) to state tokens (B, width)."""
        tokens: Tensor = self.neck(self.backbone(observations.float().div_(255)), games)
        return tokens

    def sequence_scores(self, states: Tensor, actions: Tensor, returns: Tensor, games: Tensor) -> Tensor:
        """Return the logits of the action at every step, given its state, its return and all earlier steps.

        Args:
            states: State tokens, (B, T, width) float, with T in 1..8.
            actions: Actions, (B, T) int64; no output reads the last one.
            returns: Returns-to-go before scaling, (B, T) float.
            games: Indices of the games, (B,) int64.

        Returns:
            Logits, (B, T, num_actions) float.
        """
        embedded_returns = self.embed_return(self.return_scale * returns.unsqueeze(2))
        tokens = torch.stack([embedded_returns, states, self.embed_action(actions)], dim=2).flatten(1, 2)
        tokens = self.transformer(tokens + self.positions[: tokens.shape[1]], causal=True)
        logits: Tensor = self.head(tokens[:, 1::3], games)
        return logits
