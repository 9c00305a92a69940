"""CQL: the network learns the value of actions from logs, and distrusts actions that the logs do not show."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pretrainrl.data.windows import Batch, Returns, WindowSpec
from pretrainrl.errors import InputError
from pretrainrl.networks.c51 import distribution_loss, expected_value, make_support, project
from pretrainrl.networks.heads import GameLinear
from pretrainrl.networks.necks import SpatialMLP
from pretrainrl.networks.optimization import momentum_copy, update_momentum
from pretrainrl.objectives.objective import Objective, feature_std

STEPS, DISCOUNT = 3, 0.99


class CQL(Objective):
    """Conservative Q-learning (Kumar et al., 2020, https://arxiv.org/abs/2006.04779; here as in Atari-PB).

        loss = mean TD_i + alpha * mean(logsumexp_a Q(o_t, a) - Q(o_t, a_t))
        bootstrap from a* = argmax_a Q'(o_t+3, a) with G = r_t + 0.99 r_t+1 + 0.99^2 r_t+2 and 0.99^3, or 0 past the end

    with observations (B, 4, 84, 84), each augmented on its own, Q = H_g N_g B from backbone, neck and head of the
    sample's game g, and a momentum copy Q' of all three that gets no gradient. Rewards r are signs. `CQLD` and `CQLM`
    define TD. In an episode that ends in a termination, windows start at every transition.

    Differs from the original: alpha is 0.1 instead of 1 to 4, three-step returns, a momentum copy that moves at every
    step instead of one that is replaced now and then, and augmentation. Differs from Atari-PB's code
    (https://arxiv.org/abs/2406.06037): its scripts leave the target network as it was initialized (`momentum=1.0`
    does that), and rewards less than three steps before an episode's end are lost; here they count. Both train all 18
    outputs, though most games have fewer actions: the second term pushes down those that never occur.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        outputs: Number of the head's outputs for each action.
        num_actions: Number of the head's actions; Atari has 18.
        neck_widths: Widths of the neck's linear layers.
        alpha: Weight of the conservative term, at least 0.
        momentum: Momentum of the target network, in [0, 1].
        augmentation: Whether inputs are shifted and varied in intensity.

    Raises:
        InputError: When `alpha` is negative or `momentum` not in [0, 1], and as for `Objective`.
    """

    window = WindowSpec(future=STEPS, steps=STEPS, returns=Returns(STEPS, DISCOUNT), bootstraps=True)

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        outputs: int = 1,
        *,
        num_actions: int = 18,
        neck_widths: Sequence[int] = (1024, 512),
        alpha: float = 0.1,
        momentum: float = 0.99,
        augmentation: bool = True,
    ) -> None:
        super().__init__(backbone, num_games, augmentation=augmentation)
        if alpha < 0 or not 0 <= momentum <= 1:
            raise InputError(f"CQL needs alpha >= 0 and momentum in [0, 1], got {alpha=}, {momentum=}")
        self.neck = SpatialMLP(self.feature_map_shape, num_games, neck_widths)
        self.head = GameLinear(self.neck.out_features, num_actions * outputs, num_games)
        self.target_backbone = momentum_copy(self.backbone)
        self.target_neck = momentum_copy(self.neck)
        self.target_head = momentum_copy(self.head)
        self.num_actions = num_actions
        self.alpha = alpha
        self.momentum = momentum

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Learn the value of a_t; metrics: `td_loss`, `cql_loss`, `value` (mean Q of the data's actions), `feature_std`."""
        features = self.backbone(self.view(batch.observation()))
        outputs = self._per_action(self.head(self.neck(features, batch.games), batch.games))
        with torch.no_grad():
            target_map = self.target_backbone(self.view(batch.observation(STEPS)))
            target = self.target_head(self.target_neck(target_map, batch.games), batch.games)
            discounts = DISCOUNT**STEPS * (~batch.terminations.any(dim=1)).float()
            best = self._best(self._per_action(target))
        chosen = _pick(outputs, batch.actions[:, 0])
        td_errors, metrics = self.td_errors(chosen, best, batch.returns[:, 0], discounts)
        td_loss = td_errors.mean()
        values = self.values(outputs)
        value = _pick(values, batch.actions[:, 0])
        cql_loss = (values.logsumexp(dim=1) - value).mean()
        metrics |= {"td_loss": td_loss.detach(), "cql_loss": cql_loss.detach(), "value": value.detach().mean()}
        return td_loss + self.alpha * cql_loss, {**metrics, "feature_std": feature_std(features)}

    def after_step(self, progress: float) -> None:
        """Move the momentum copies, at every step."""
        for target, online in (
            (self.target_backbone, self.backbone),
            (self.target_neck, self.neck),
            (self.target_head, self.head),
        ):
            update_momentum(target, online, self.momentum)

    def action_scores(self, observations: Tensor, games: Tensor) -> Tensor:
        """Map observations (B, 4, 84, 84) uint8 of games (B,) to the values of all actions (B, num_actions)."""
        latents = self.neck(self.backbone(observations.float().div_(255)), games)
        return self.values(self._per_action(self.head(latents, games)))

    @abstractmethod
    def values(self, outputs: Tensor) -> Tensor:
        """Map the head's outputs (B, num_actions, outputs) to values Q (B, num_actions)."""

    @abstractmethod
    def td_errors(self, chosen: Tensor, best: Tensor, returns: Tensor, discounts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the TD loss of each sample, (B,), and further metrics.

        Args:
            chosen: Outputs for a_t, (B, outputs) float.
            best: Outputs of the target network for a*, (B, outputs) float.
            returns: Returns G of three steps, (B,) float.
            discounts: Factors of the bootstrapped value, (B,) float.
        """

    def _per_action(self, outputs: Tensor) -> Tensor:
        """Reshape (B, num_actions * outputs) to (B, num_actions, outputs) in float32."""
        return outputs.float().view(len(outputs), self.num_actions, -1)

    def _best(self, outputs: Tensor) -> Tensor:
        """Return the outputs for the best action, (B, outputs)."""
        return _pick(outputs, self.values(outputs).argmax(dim=1))


class CQLD(CQL):
    """CQL on distributions of returns (C51; Bellemare et al., 2017, https://arxiv.org/abs/1707.06887).

        TD = cross-entropy(projection of G + discount * Z'(o_t+3, a*), Z(o_t, a_t)),   Q = mean of Z

    with Z given by logits (B, actions, 51) on atoms from -10 to 10. The cross-entropy of each sample is clamped to
    [1e-5, 1e5], as in Atari-PB; it comes from log-softmax, where Atari-PB's code takes the logarithm of a softmax, and
    all samples are projected in one scatter. The rest is described at `CQL`.

    Args:
        backbone: Network to train, as for `Objective`.
        num_games: Number of games in the data, at least 1.
        atoms: Number of atoms of each distribution, at least 2.
        limit: Greatest return; the atoms reach from -limit to limit.
        num_actions: Number of the head's actions; Atari has 18.
        neck_widths: Widths of the neck's linear layers.
        alpha: Weight of the conservative term, at least 0.
        momentum: Momentum of the target network, in [0, 1].
        augmentation: Whether inputs are shifted and varied in intensity.

    Raises:
        InputError: For fewer than two atoms or a limit that is not positive, and as for `CQL`.
    """

    support: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        num_games: int,
        *,
        atoms: int = 51,
        limit: float = 10.0,
        num_actions: int = 18,
        neck_widths: Sequence[int] = (1024, 512),
        alpha: float = 0.1,
        momentum: float = 0.99,
        augmentation: bool = True,
    ) -> None:
        super().__init__(
            backbone,
            num_games,
            atoms,
            num_actions=num_actions,
            neck_widths=neck_widths,
            alpha=alpha,
            momentum=momentum,
            augmentation=augmentation,
        )
        self.register_buffer("support", make_support(atoms, -limit, limit), persistent=False)

    def values(self, outputs: Tensor) -> Tensor:
        """Return the mean of each action's distribution, (B, num_actions)."""
        return expected_value(outputs, self.support)

    def td_errors(self, chosen: Tensor, best: Tensor, returns: Tensor, discounts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropy against the projected target; its least possible value is the metric `target_entropy`."""
        target = project(best.softmax(dim=1), returns, discounts, self.support)
        errors = distribution_loss(chosen, target).clamp(1e-5, 1e5)
        return errors, {"target_entropy": torch.special.entr(target).sum(dim=1).mean()}


class CQLM(CQL):
    """CQL on mean returns.

        TD = (Q(o_t, a_t) - (G + discount * Q'(o_t+3, a*)))^2

    with Q of shape (B, actions). Atari-PB names this objective, but its code has no loss for it; this loss follows from the
    distributional form. The arguments are those of `CQL`.
    """

    def values(self, outputs: Tensor) -> Tensor:
        """Return the outputs themselves, (B, num_actions)."""
        return outputs.squeeze(2)

    def td_errors(self, chosen: Tensor, best: Tensor, returns: Tensor, discounts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the squared difference from the bootstrapped return."""
        return (chosen.squeeze(1) - (returns + discounts * best.squeeze(1))).square(), {}


def _pick(outputs: Tensor, actions: Tensor) -> Tensor:
    """Pick the entry of each row's action: (B, num_actions, ...) and (B,) give (B, ...)."""
    return outputs[torch.arange(len(actions), device=actions.device), actions]
