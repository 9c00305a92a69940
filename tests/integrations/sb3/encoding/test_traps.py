"""Traps of a frozen encoder in Stable-Baselines3, one by one.

Where it is cheap, the obvious design is tried too and must fail, so that the test is known to be able to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from sb3_agents import (
    ALGORITHMS,
    CHANNEL_FIRST,
    STEPS,
    NaiveExtractor,
    RandomFrames,
    frames,
    make_agent,
    naive,
    other_weights,
    same,
    small,
    weights,
)
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from pretrainrl import make_encoder, register_encoder
from pretrainrl.cards import EncoderCard, Weights
from pretrainrl.encoders import cached_encoder, make_backbone
from pretrainrl.errors import InputError
from pretrainrl.integrations.sb3 import PretrainedExtractor


class BatchNormBackbone(nn.Sequential):
    """A backbone whose buffers and dropout give away a wrong mode."""

    feature_map_shape = (8, 20, 20)

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(4, 8, 8, stride=4), nn.BatchNorm2d(8), nn.Dropout(), nn.ReLU())


@pytest.fixture(scope="module")
def batch_norm_encoder() -> str:
    card = EncoderCard(
        name="test.batchnorm",
        summary="",
        objective="random",
        backbone=f"{__name__}:BatchNormBackbone",
        features="flat",
        feature_map_shape=(8, 20, 20),
        license="MIT",
        weights=Weights(seed=0),
    )
    register_encoder(card)
    return card.name


@pytest.mark.parametrize("algorithm", ["DQN", "QRDQN"])
def test_target_updates_do_not_reach_the_encoder(algorithm: str, batch_norm_encoder: str) -> None:
    shared: Any = BatchNormBackbone()
    make_agent(algorithm, naive(backbone=shared)).learn(STEPS)
    assert not shared[0].weight.any(), "a shared submodule is overwritten with zeros"

    before = weights(make_encoder(batch_norm_encoder))
    make_agent(algorithm, small(batch_norm_encoder)).learn(STEPS)
    assert same(weights(cached_encoder(batch_norm_encoder)), before)


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "TRPO"])
def test_orthogonal_initialisation_does_not_reach_the_encoder(algorithm: str) -> None:
    backbone = make_backbone("nature")
    before = weights(backbone)
    make_agent(algorithm, naive(backbone=backbone))
    assert not same(weights(backbone), before)

    agent = make_agent(algorithm, small())
    assert same(weights(agent.policy.features_extractor.encoder_on("cpu").backbone), before)
    neck = agent.policy.features_extractor.neck[1]
    assert not neck.bias.any(), "the neck is initialised as SB3 does"


def test_training_mode_does_not_reach_the_encoder(batch_norm_encoder: str) -> None:
    policy = make_agent("PPO", naive(backbone=BatchNormBackbone())).policy
    policy.set_training_mode(True)
    drifting = weights(policy.features_extractor.backbone)
    policy.extract_features(torch.as_tensor(frames()))
    assert not same(weights(policy.features_extractor.backbone), drifting)

    policy = make_agent("PPO", small(batch_norm_encoder)).policy
    policy.set_training_mode(True)
    encoder = policy.features_extractor.encoder_on("cpu")
    before = weights(encoder)
    first, second = (policy.extract_features(torch.as_tensor(frames())) for _ in range(2))
    assert policy.training and not any(module.training for module in encoder.modules())
    assert torch.equal(first, second), "no dropout"
    assert same(weights(encoder), before)


def test_the_spatial_neck_reads_the_feature_map() -> None:
    agent = make_agent("DQN", small(neck="spatial_mlp"))
    embedding = agent.q_net.features_extractor.neck.embedding.weight
    assert embedding.shape == (1, 64 * 7 * 7)
    before = embedding.clone()
    agent.learn(STEPS)
    assert not torch.equal(embedding, before)


def test_no_graph_through_the_encoder_and_no_inference_tensor() -> None:
    class InferenceExtractor(NaiveExtractor):
        def forward(self, observations: Tensor) -> Tensor:
            with torch.inference_mode():
                features = self.backbone(observations)
            return self.neck(features)

    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        InferenceExtractor(CHANNEL_FIRST)(torch.rand(2, 4, 84, 84)).sum().backward()

    extractor: Any = PretrainedExtractor(CHANNEL_FIRST, "random.nature", features_dim=16)
    seen = []
    extractor.neck.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    extractor(torch.rand(2, 4, 84, 84)).sum().backward()
    assert not seen[0].requires_grad and not seen[0].is_inference()
    assert extractor.neck[1].weight.grad.any()


@pytest.mark.parametrize("trainable", [False, True])
def test_weights_are_in_the_target_network_from_the_start(trainable: bool, tmp_path: Path) -> None:
    path = other_weights(tmp_path)
    pretrained = weights(make_encoder("random.nature", weights=path))

    agent = make_agent("DQN", naive())
    online, target = (net.features_extractor.backbone for net in (agent.q_net, agent.q_net_target))
    online.load_state_dict(make_encoder("random.nature", weights=path).backbone.state_dict())
    assert not same(weights(target), weights(online))

    policy = make_agent("DQN", small(weights=path, trainable=trainable)).policy
    for network in (policy.q_net, policy.q_net_target):
        assert same(weights(network.features_extractor.encoder_on("cpu")), pretrained)


def heads(agent: BaseAlgorithm) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in weights(agent.policy).items() if "features_extractor" not in key}


@pytest.mark.parametrize("algorithm", ["DQN", "PPO", "A2C", "RecurrentPPO", "SAC", "TD3"])
def test_equal_heads_for_equal_seeds_whatever_the_encoder(algorithm: str) -> None:
    first, second = (heads(make_agent(algorithm, small(name))) for name in ("random.nature", "random.impala"))
    assert first and same(first, second)
    assert same(first, heads(make_agent(algorithm, small(neck="spatial_mlp"))))
    assert not same(first, heads(make_agent(algorithm, small(), seed=1)))


@pytest.mark.parametrize("algorithm", ["DQN", "PPO"])
def test_heads_of_the_obvious_design_depend_on_the_encoder(algorithm: str) -> None:
    agents = (make_agent(algorithm, naive(backbone=make_backbone(name))) for name in ("nature", "impala"))
    assert not same(*map(heads, agents))


def test_moving_one_agent_leaves_the_others_alone() -> None:
    shared = make_backbone("nature")
    first, second = (NaiveExtractor(CHANNEL_FIRST, shared) for _ in range(2))
    first.to("meta")
    assert next(second.backbone.parameters()).device.type == "meta", "a shared submodule moves for all"

    one, other = (PretrainedExtractor(CHANNEL_FIRST, "random.nature", features_dim=16) for _ in range(2))
    one.to("meta")
    assert other(torch.rand(1, 4, 84, 84)).device.type == "cpu"
    assert cached_encoder("random.nature").device.type == "cpu"


def test_the_policy_scales_frames_once() -> None:
    agent = make_agent("DQN", small(neck=None))
    features = agent.policy.q_net.extract_features(torch.as_tensor(frames()), agent.policy.q_net.features_extractor)
    assert torch.equal(features, make_encoder("random.nature")(frames()))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Box(0, 255, (4, 84, 84, 3), np.uint8), "an RGB stack; use grayscale"),
        (Box(0, 255, (84, 84, 3), np.uint8), "an RGB frame; use grayscale"),
        (Box(0, 1, (4, 84, 84), np.float32), "float32 .*raw frames"),
        (Box(0, 255, (84, 84, 1), np.uint8), "a single frame; stack 4"),
        (Box(0, 255, (84, 84, 3, 4), np.uint8), "expected observations"),
        (Box(0, 255, (96, 96, 4), np.uint8), r"got shape \(4, 96, 96\)"),
        (Box(0, 1, (4, 84, 84), np.uint8), r"got bounds \[0, 1\]"),
    ],
)
def test_wrong_observations_are_refused_when_the_agent_is_made(space: Box, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DQN("CnnPolicy", RandomFrames(space=space), policy_kwargs=small(), buffer_size=10)


def test_unscaled_frames_are_refused() -> None:
    agent = make_agent("DQN", {**small(), "normalize_images": False})
    with pytest.raises(InputError, match="normalize_images"):
        agent.predict(frames())


def test_channel_last_without_sb3s_transposition_is_refused() -> None:
    with pytest.raises(InputError, match="VecTransposeImage"):
        PretrainedExtractor(Box(0, 255, (84, 84, 4), np.uint8), "random.nature")


SB3_DEFAULT = {64, 256, 300}  # widths of the hidden layers of Q-learning and on-policy agents, SAC and TQC, and TD3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_hidden_layers_are_added_behind_the_extractor(algorithm: str) -> None:
    def heads_inputs(kwargs: dict[str, Any]) -> set[int]:
        policy = make_agent(algorithm, kwargs).policy
        layers = {name: m for name, m in policy.named_modules() if isinstance(m, nn.Linear) and "extractor.neck" not in name}
        return {layer.in_features for layer in layers.values()}

    assert not heads_inputs(small()) & SB3_DEFAULT - {256 if algorithm == "RecurrentPPO" else 0}
    assert heads_inputs({key: value for key, value in small().items() if key != "net_arch"}) & SB3_DEFAULT, (
        "SB3's default adds them"
    )
    assert 40 in heads_inputs(small(net_arch=[40]))


def test_no_batch_norm_statistics_in_the_pickled_attributes(batch_norm_encoder: str) -> None:
    assert make_agent("DQN", naive(backbone=BatchNormBackbone())).batch_norm_stats
    assert not make_agent("DQN", small(batch_norm_encoder)).batch_norm_stats
