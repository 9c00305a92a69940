"""SPR: the network predicts latents of future observations from the current one and the actions in between."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pretrainrl.data.windows import Batch
from pretrainrl.errors import InputError
from pretrainrl.networks.losses import info_nce
from pretrainrl.objectives.momentum import PredictiveObjective
from pretrainrl.objectives.objective import feature_std


class SPR(PredictiveObjective):
    """Self-predictive representations (Schwarzer et al., 2021, https://arxiv.org/abs/2007.05929; here as in Atari-PB).

        z_0 = N_g B(A o_t),   z_i = RNN(z_i-1, a_t+i-1),   q_i = H_g z_i,   k_i = N'_g B'(A o_t+i),   i = 1..4
        loss = InfoNCE of all 4 B predictions q against all 4 B targets k, logits q . k / temperature

    with observations (B, 4, 84, 84), one augmentation A for all observations of a window, backbone B, neck N_g and linear
    head H_g of the sample's game g, a tanh RNN driven by embedded actions, and momentum copies B', N' that get no gradient.
    Steps after a terminal in the window count neither as predictions nor as negatives.

    Differs from the original: a contrastive loss instead of the cosine similarity, a recurrent model of latent vectors
    instead of a convolutional one of maps, 4 steps instead of 5, and no projection heads. Differs from Atari-PB's code
    (https://arxiv.org/abs/2406.06037), which predicts across the ends of episodes, and whose gradients shrink with the
    number of processes.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        num_actions: Number of actions of each game; Atari has 18.
        neck_widths: Widths of the neck's linear layers; the last is the latents' width.
        temperature: Positive number that divides the logits.
        normalize: Whether latents are compared by cosine instead of by dot product.
        augmentation: Whether inputs are shifted and varied in intensity.

    Raises:
        InputError: When `temperature` is not positive, and as for `Objective`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        *,
        num_actions: int = 18,
        neck_widths: Sequence[int] = (1024, 512),
        temperature: float = 1.0,
        normalize: bool = False,
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, num_actions=num_actions, neck_widths=neck_widths, augmentation=augmentation)
        if temperature <= 0:
            raise InputError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature
        self.normalize = normalize

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict the latents of o_t+1..o_t+4; metrics: `accuracy`, `feature_std`."""
        rollout = self.rollout(batch)
        predictions = self.head(rollout.latents[:, 1:], batch.games)
        loss, accuracy = info_nce(
            predictions.flatten(0, 1),
            rollout.targets.flatten(0, 1),
            temperature=self.temperature,
            normalize=self.normalize,
            ignore=rollout.ended.flatten(),
            hide_ignored=True,
        )
        return loss, {"accuracy": accuracy, "feature_std": feature_std(rollout.features)}
