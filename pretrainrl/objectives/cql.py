"""CQL: the value of actions, learnt from logs without trusting actions that the logs do not show."""

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
    sample's game g, and a momentum copy Q' of all three that gets no gradient. Rewards r are signs. What TD is, `CQLD`
    and `CQLM` say.

    Differs from the original: alpha is 0.1 instead of 1 to 4, three-step returns, a momentum copy that moves at every
    step instead of one that is replaced now and then, and augmentation. Differs from the study's code
    (https://arxiv.org/abs/2406.06037): there the scripts leave the target network as it was initialised (`momentum=1.0`
    does that), and rewards less than three steps before an episode's end are lost; here they count. As there, all 18
    outputs are trained, though most games have fewer actions: those that never occur are pushed down by the second term.

    Args:
        backbone: See `Objective`.
        num_games: See `Objective`.
        outputs: Of the head for each action.
        num_actions: Width of the head; Atari has 18 actions.
        neck_widths: Of the neck's linear layers.
        alpha: Weight of the conservative term.
        momentum: Of the target network.
        augmentation: See `Objective`.

    Raises:
        InputError: when `alpha` is negative or `momentum` not in [0, 1], and as for `Objective`.
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
        """Value of every action: observations (B, 4, 84, 84) uint8 and games (B,) give (B, num_actions)."""
        latents = self.neck(self.backbone(observations.float().div_(255)), games)
        return self.values(self._per_action(self.head(latents, games)))

    @abstractmethod
    def values(self, outputs: Tensor) -> Tensor:
        """Q of the head's outputs: (B, num_actions, outputs) -> (B, num_actions)."""

    @abstractmethod
    def td_errors(self, chosen: Tensor, best: Tensor, returns: Tensor, discounts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """TD loss of each sample, (B,), and further metrics.

        Args:
            chosen: (B, outputs) float, for a_t.
            best: (B, outputs) float, the target network's for a*.
            returns: (B,) float, G.
            discounts: (B,) float.
        """

    def _per_action(self, outputs: Tensor) -> Tensor:
        """(B, num_actions * outputs) -> (B, num_actions, outputs), in float32."""
        return outputs.float().view(len(outputs), self.num_actions, -1)

    def _best(self, outputs: Tensor) -> Tensor:
        """The target's outputs for its best action, (B, outputs)."""
        return _pick(outputs, self.values(outputs).argmax(dim=1))


class CQLD(CQL):
    """CQL on distributions of returns (C51; Bellemare et al., 2017, https://arxiv.org/abs/1707.06887).

        TD = cross-entropy(projection of G + discount * Z'(o_t+3, a*), Z(o_t, a_t)),   Q = mean of Z

    with Z given by logits (B, actions, 51) on atoms from -10 to 10. The cross-entropy of each sample is clamped to
    [1e-5, 1e5], as in the study; it comes from log-softmax, where the study's code takes the logarithm of a softmax, and
    all samples are projected in one scatter. For the rest, see `CQL`.

    Args:
        backbone: See `Objective`.
        num_games: See `Objective`.
        atoms: Of each distribution.
        limit: The atoms reach from -limit to limit.
        num_actions: See `CQL`.
        neck_widths: See `CQL`.
        alpha: See `CQL`.
        momentum: See `CQL`.
        augmentation: See `CQL`.

    Raises:
        InputError: for fewer than two atoms or a limit that is not positive, and as for `CQL`.
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
        """Mean of each action's distribution, (B, num_actions)."""
        return expected_value(outputs, self.support)

    def td_errors(self, chosen: Tensor, best: Tensor, returns: Tensor, discounts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy against the projected target distribution; metric: `target_entropy`, the least it can be."""
        target = project(best.softmax(dim=1), returns, discounts, self.support)
        errors = distribution_loss(chosen, target).clamp(1e-5, 1e5)
        return errors, {"target_entropy": torch.special.entr(target).sum(dim=1).mean()}


class CQLM(CQL):
    """CQL on mean returns.

        TD = (Q(o_t, a_t) - (G + discount * Q'(o_t+3, a*)))^2

    with Q of shape (B, actions). The study names this objective, but its code has no loss for it; this is the one that its
    distributional form suggests. Arguments are those of `CQL`.
    """

    def values(self, outputs: Tensor) -> Tensor:
        """The outputs themselves, (B, num_actions)."""
        return outputs.squeeze(2)

    def td_errors(self, chosen: Tensor, best: Tensor, returns: Tensor, discounts: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared difference from the bootstrapped return."""
        return (chosen.squeeze(1) - (returns + discounts * best.squeeze(1))).square(), {}


def _pick(outputs: Tensor, actions: Tensor) -> Tensor:
    """Each row's entry for its action: (B, num_actions, ...) and (B,) give (B, ...)."""
    return outputs[torch.arange(len(actions), device=actions.device), actions]
