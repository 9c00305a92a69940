"""PretrainedExtractor in nine algorithms: each known trap of a frozen encoder in Stable-Baselines3 has its test.

The traps are numbered as in the documentation of the integration. Where it is cheap, the obvious design is tried too and
must fail, so that the test is known to be able to.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from safetensors.torch import save_file
from sb3_contrib import QRDQN, TQC, TRPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from pretrainrl import make_encoder, register_encoder
from pretrainrl.cards import EncoderCard, Weights
from pretrainrl.encoders import Encoder, cached_encoder, factory, make_backbone
from pretrainrl.errors import InputError, UnknownNameError, WeightsError
from pretrainrl.integrations.sb3 import PretrainedExtractor, policy_kwargs

FRAMES = Box(0, 255, (4, 84, 84), np.uint8)


class RandomFrames(gym.Env[np.ndarray, Any]):
    """Random channel-last frames in episodes of five steps."""

    def __init__(self, continuous: bool = False, space: Box | None = None) -> None:
        self.observation_space = space or Box(0, 255, (84, 84, 4), np.uint8)
        self.action_space = Box(-1, 1, (2,)) if continuous else Discrete(3)

    def _frame(self) -> np.ndarray:
        return (self.np_random.random(self.observation_space.shape) * 255).astype(self.observation_space.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_count = 0
        return self._frame(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.step_count += 1
        return self._frame(), float(self.np_random.normal()), self.step_count == 5, False, {}


STEPS = 8
OFF_POLICY = {"buffer_size": 20, "learning_starts": 4, "batch_size": 3, "train_freq": 1}
Q_LEARNING = {**OFF_POLICY, "target_update_interval": 1}
ON_POLICY = {"n_steps": 4}
ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], str, bool, dict[str, Any]]] = {
    "DQN": (DQN, "CnnPolicy", False, Q_LEARNING),
    "QRDQN": (QRDQN, "CnnPolicy", False, Q_LEARNING),
    "PPO": (PPO, "CnnPolicy", False, {**ON_POLICY, "batch_size": 4, "n_epochs": 1}),
    "A2C": (A2C, "CnnPolicy", True, ON_POLICY),
    "TRPO": (TRPO, "CnnPolicy", False, {**ON_POLICY, "batch_size": 4, "n_critic_updates": 2, "cg_max_steps": 2}),
    "RecurrentPPO": (RecurrentPPO, "CnnLstmPolicy", False, {**ON_POLICY, "batch_size": 4, "n_epochs": 1}),
    "SAC": (SAC, "CnnPolicy", True, OFF_POLICY),
    "TD3": (TD3, "CnnPolicy", True, OFF_POLICY),
    "TQC": (TQC, "CnnPolicy", True, OFF_POLICY),
}


def make_agent(algorithm: str, kwargs: dict[str, Any], **more: Any) -> BaseAlgorithm:
    """An untrained agent on random frames."""
    cls, policy, continuous, settings = ALGORITHMS[algorithm]
    return cls(policy, RandomFrames(continuous), policy_kwargs=kwargs, device="cpu", **{"seed": 0, **settings, **more})


def small(encoder: str = "random.nature", **arguments: Any) -> dict[str, Any]:
    return policy_kwargs(encoder, **{"features_dim": 16, **arguments})


def frames(batch: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (batch, 4, 84, 84), dtype=np.uint8)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in module.state_dict().items()}


def first_bytes(module: nn.Module) -> bytes:
    """Bytes that give away the module's weights wherever they are written."""
    return bytes(next(module.parameters()).untyped_storage()[:64])


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def saved_state(path: Path) -> dict[str, Tensor]:
    """The state_dict in an agent's zip."""
    with zipfile.ZipFile(path) as archive:
        return torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)


def saved_attributes(path: Path) -> bytes:
    """What the agent's attributes were pickled to."""
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    return b"".join(base64.b64decode(item[":serialized:"]) for item in data.values() if ":serialized:" in str(item))


class Trained(NamedTuple):
    """An agent after training, and what was observed meanwhile."""

    agent: BaseAlgorithm
    path: Path
    constructions: int
    before: dict[str, Tensor]


@pytest.fixture(scope="module", params=ALGORITHMS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    made = []

    def counting_make_encoder(*args: Any, **kwargs: Any) -> Encoder:
        made.append(args)
        return make_encoder(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factory, "make_encoder", counting_make_encoder)
        factory._cached.cache_clear()
        before = weights(make_encoder("random.nature"))
        agent = make_agent(request.param, small()).learn(STEPS)
        path = tmp_path_factory.mktemp("agent") / "agent.zip"
        agent.save(path)
        yield Trained(agent, path, len(made), before)


# --- the frozen encoder, in every algorithm


def test_weights_are_bit_identical_after_training(trained: Trained) -> None:
    assert trained.agent._n_updates > 0
    assert same(weights(cached_encoder("random.nature")), trained.before)


def test_p4_one_encoder_however_many_networks(trained: Trained) -> None:
    extractors = [module for module in trained.agent.policy.modules() if isinstance(module, PretrainedExtractor)]
    assert trained.constructions == 1
    assert len({id(extractor.encoder_on("cpu")) for extractor in extractors}) == 1


def test_p5_no_encoder_tensor_in_the_state_or_the_zip(trained: Trained) -> None:
    shapes = {tensor.shape for tensor in trained.before.values() if tensor.ndim == 4}
    state = saved_state(trained.path)
    assert state.keys() == trained.agent.policy.state_dict().keys()
    assert not shapes & {tensor.shape for tensor in state.values()}
    assert first_bytes(cached_encoder("random.nature")) not in saved_attributes(trained.path)


def test_p9_no_encoder_parameter_in_an_optimizer(trained: Trained) -> None:
    policy = trained.agent.policy
    owners = [policy, *(getattr(policy, name, None) for name in ("actor", "critic"))]
    optimizers = [owner.optimizer for owner in owners if getattr(owner, "optimizer", None)]
    optimised = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    assert optimised and not optimised & {id(p) for p in cached_encoder("random.nature").parameters()}


def test_necks_are_trained(trained: Trained) -> None:
    fresh = make_agent(type(trained.agent).__name__, small()).policy.state_dict()
    moved = [key for key, tensor in trained.agent.policy.state_dict().items() if not torch.equal(tensor, fresh[key])]
    assert [key for key in moved if "features_extractor.neck" in key and "target" not in key]


def test_save_load_predict_are_identical_and_training_goes_on(trained: Trained) -> None:
    loaded = type(trained.agent).load(trained.path, device="cpu")
    assert same(weights(loaded.policy), weights(trained.agent.policy))
    actions, _ = trained.agent.predict(frames(), deterministic=True)
    assert np.array_equal(loaded.predict(frames(), deterministic=True)[0], actions)
    loaded.set_env(trained.agent.get_env())
    loaded.learn(STEPS)
    assert same(weights(cached_encoder("random.nature")), trained.before)


# --- single traps, with the obvious design beside


class NaiveExtractor(BaseFeaturesExtractor):
    """The obvious design: the frozen network is a submodule."""

    def __init__(self, observation_space: Box, backbone: nn.Module | None = None, features_dim: int = 16) -> None:
        super().__init__(observation_space, features_dim)
        self.backbone = backbone or make_backbone("nature")
        self.backbone.requires_grad_(False)
        width = self.backbone(torch.zeros(1, 4, 84, 84)).numel()
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(width, features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(observations)
        return self.neck(features)


def naive(**arguments: Any) -> dict[str, Any]:
    return {"features_extractor_class": NaiveExtractor, "features_extractor_kwargs": arguments}


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
        licence="MIT",
        weights=Weights(seed=0),
    )
    register_encoder(card)
    return card.name


@pytest.mark.parametrize("algorithm", ["DQN", "QRDQN"])
def test_p1_target_updates_do_not_reach_the_encoder(algorithm: str, batch_norm_encoder: str) -> None:
    shared = BatchNormBackbone()
    make_agent(algorithm, naive(backbone=shared)).learn(STEPS)
    assert not shared[0].weight.any(), "a shared submodule is overwritten with zeros"

    before = weights(make_encoder(batch_norm_encoder))
    make_agent(algorithm, small(batch_norm_encoder)).learn(STEPS)
    assert same(weights(cached_encoder(batch_norm_encoder)), before)


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "TRPO"])
def test_p2_orthogonal_initialisation_does_not_reach_the_encoder(algorithm: str) -> None:
    backbone = make_backbone("nature")
    before = weights(backbone)
    make_agent(algorithm, naive(backbone=backbone))
    assert not same(weights(backbone), before)

    agent = make_agent(algorithm, small())
    assert same(weights(agent.policy.features_extractor.encoder_on("cpu").backbone), before)
    neck = agent.policy.features_extractor.neck[1]
    assert not neck.bias.any(), "the neck is initialised as SB3 does"


def test_p3_training_mode_does_not_reach_the_encoder(batch_norm_encoder: str) -> None:
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


@pytest.mark.parametrize(("algorithm", "copies"), [("DQN", 2), ("SAC", 3), ("TD3", 4)])
def test_p4_and_p5_the_obvious_design_holds_and_saves_many_copies(algorithm: str, copies: int, tmp_path: Path) -> None:
    make_agent(algorithm, naive()).save(tmp_path / "agent.zip")
    assert len([key for key in saved_state(tmp_path / "agent.zip") if key.endswith("backbone.layers.0.weight")]) == copies

    backbone = make_backbone("nature")
    make_agent(algorithm, naive(backbone=backbone)).save(tmp_path / "agent.zip")
    assert first_bytes(backbone) in saved_attributes(tmp_path / "agent.zip"), (
        "an instance among the arguments is pickled again"
    )


def test_p7_the_spatial_neck_reads_the_feature_map() -> None:
    agent = make_agent("DQN", small(neck="spatial_mlp"))
    embedding = agent.q_net.features_extractor.neck.embedding.weight
    assert embedding.shape == (1, 64 * 7 * 7)
    before = embedding.clone()
    agent.learn(STEPS)
    assert not torch.equal(embedding, before)


def test_p8_no_graph_through_the_encoder_and_no_inference_tensor() -> None:
    class InferenceExtractor(NaiveExtractor):
        def forward(self, observations: Tensor) -> Tensor:
            with torch.inference_mode():
                features = self.backbone(observations)
            return self.neck(features)

    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        InferenceExtractor(FRAMES)(torch.rand(2, 4, 84, 84)).sum().backward()

    extractor = PretrainedExtractor(FRAMES, "random.nature", features_dim=16)
    seen = []
    extractor.neck.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    extractor(torch.rand(2, 4, 84, 84)).sum().backward()
    assert not seen[0].requires_grad and not seen[0].is_inference()
    assert extractor.neck[1].weight.grad.any()


def test_p9_in_the_obvious_design_freezing_changes_the_optimizer() -> None:
    agent = make_agent("DQN", naive())
    optimised = {id(p) for group in agent.policy.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in agent.policy.q_net.features_extractor.backbone.parameters()} < optimised


@pytest.mark.parametrize("trainable", [False, True])
def test_p10_weights_are_in_the_target_network_from_the_start(trainable: bool, tmp_path: Path) -> None:
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
def test_p11_equal_heads_for_equal_seeds_whatever_the_encoder(algorithm: str) -> None:
    first, second = (heads(make_agent(algorithm, small(name))) for name in ("random.nature", "random.impala"))
    assert first and same(first, second)
    assert same(first, heads(make_agent(algorithm, small(neck="spatial_mlp"))))
    assert not same(first, heads(make_agent(algorithm, small(), seed=1)))


@pytest.mark.parametrize("algorithm", ["DQN", "PPO"])
def test_p11_heads_of_the_obvious_design_depend_on_the_encoder(algorithm: str) -> None:
    agents = (make_agent(algorithm, naive(backbone=make_backbone(name))) for name in ("nature", "impala"))
    assert not same(*map(heads, agents))


def test_p12_moving_one_agent_leaves_the_others_alone() -> None:
    shared = make_backbone("nature")
    first, second = (NaiveExtractor(FRAMES, shared) for _ in range(2))
    first.to("meta")
    assert next(second.backbone.parameters()).device.type == "meta", "a shared submodule moves for all"

    first, second = (PretrainedExtractor(FRAMES, "random.nature", features_dim=16) for _ in range(2))
    first.to("meta")
    assert second(torch.rand(1, 4, 84, 84)).device.type == "cpu"
    assert cached_encoder("random.nature").device.type == "cpu"


def test_p13_the_policy_scales_frames_once() -> None:
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
def test_p13_wrong_observations_are_refused_when_the_agent_is_made(space: Box, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DQN("CnnPolicy", RandomFrames(space=space), policy_kwargs=small(), buffer_size=10)


def test_p13_unscaled_frames_are_refused() -> None:
    agent = make_agent("DQN", {**small(), "normalize_images": False})
    with pytest.raises(InputError, match="normalize_images"):
        agent.predict(frames())


def test_p13_channel_last_without_sb3s_transposition_is_refused() -> None:
    with pytest.raises(InputError, match="VecTransposeImage"):
        PretrainedExtractor(Box(0, 255, (84, 84, 4), np.uint8), "random.nature")


SB3_DEFAULT = {64, 256, 300}  # widths of the hidden layers of Q-learning and on-policy agents, SAC and TQC, and TD3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_p14_no_hidden_layers_are_added_behind_the_extractor(algorithm: str) -> None:
    def heads_inputs(kwargs: dict[str, Any]) -> set[int]:
        policy = make_agent(algorithm, kwargs).policy
        layers = {name: m for name, m in policy.named_modules() if isinstance(m, nn.Linear) and "extractor.neck" not in name}
        return {layer.in_features for layer in layers.values()}

    assert not heads_inputs(small()) & SB3_DEFAULT - {256 if algorithm == "RecurrentPPO" else 0}
    assert heads_inputs({key: value for key, value in small().items() if key != "net_arch"}) & SB3_DEFAULT, (
        "SB3's default adds them"
    )
    assert 40 in heads_inputs(small(net_arch=[40]))


def test_p20_no_batch_norm_statistics_in_the_pickled_attributes(batch_norm_encoder: str) -> None:
    assert make_agent("DQN", naive(backbone=BatchNormBackbone())).batch_norm_stats
    assert not make_agent("DQN", small(batch_norm_encoder)).batch_norm_stats


# --- end-to-end training


@pytest.mark.parametrize("algorithm", ["DQN", "PPO", "A2C", "SAC", "RecurrentPPO"])
def test_trainable_encoder_starts_from_its_weights_and_learns(algorithm: str, tmp_path: Path) -> None:
    pretrained = weights(make_encoder("random.nature").backbone)
    agent = make_agent(algorithm, small(trainable=True))
    extractors = [module for module in agent.policy.modules() if isinstance(module, PretrainedExtractor)]
    assert all(same(weights(extractor.encoder.backbone), pretrained) for extractor in extractors)
    assert len({next(extractor.encoder.parameters()).data_ptr() for extractor in extractors}) == len(extractors)

    agent.learn(STEPS)
    for extractor in extractors:
        assert not same(weights(extractor.encoder.backbone), pretrained)
    assert same(weights(cached_encoder("random.nature").backbone), pretrained), "the shared one is another"
    agent.save(tmp_path / "agent.zip")
    loaded = type(agent).load(tmp_path / "agent.zip", device="cpu")
    assert same(weights(loaded.policy), weights(agent.policy))
    assert np.array_equal(*(a.predict(frames(), deterministic=True)[0] for a in (agent, loaded)))


def test_trainable_encoder_follows_the_policys_mode() -> None:
    policy = make_agent("PPO", small(trainable=True)).policy
    policy.set_training_mode(True)
    assert policy.features_extractor.encoder.training
    policy.set_training_mode(False)
    assert not policy.features_extractor.encoder.training


def test_trainable_encoder_is_trained_in_float32() -> None:
    with pytest.raises(InputError, match="float32"):
        make_agent("DQN", small(trainable=True, dtype="bfloat16"))


# --- saved agents and their encoders


def other_weights(folder: Path, value: float = 0.01) -> Path:
    """Weights for `random.nature` that are not its own."""
    tensors = {key: torch.full(tensor.shape, value) for key, tensor in make_backbone("nature").state_dict().items()}
    save_file(tensors, folder / "other.safetensors")
    return folder / "other.safetensors"


def test_loading_checks_the_digest_of_the_encoder(tmp_path: Path) -> None:
    path = other_weights(tmp_path)
    make_agent("DQN", small(weights=path)).save(tmp_path / "agent.zip")
    other_weights(tmp_path, value=0.02)
    factory._cached.cache_clear()
    with pytest.raises(WeightsError, match=r"has sha256 [0-9a-f]{12}\.\.\. here.* give it the same weights"):
        DQN.load(tmp_path / "agent.zip")
    path.unlink()
    factory._cached.cache_clear()
    with pytest.raises(WeightsError, match="no such file"):
        DQN.load(tmp_path / "agent.zip")


def test_an_encoder_that_moved_can_be_given_anew(tmp_path: Path) -> None:
    path = other_weights(tmp_path)
    agent = make_agent("DQN", small(weights=path))
    agent.save(tmp_path / "agent.zip")
    moved = path.rename(tmp_path / "moved.safetensors")
    factory._cached.cache_clear()
    loaded = DQN.load(tmp_path / "agent.zip", custom_objects={"policy_kwargs": small(weights=moved)})
    assert torch.equal(*(a.q_net(torch.as_tensor(frames())) for a in (agent, loaded)))


def test_policy_kwargs_hold_names_and_a_digest() -> None:
    kwargs = policy_kwargs("random.nature", dtype=torch.bfloat16, net_arch=(32,))
    assert kwargs["features_extractor_class"] is PretrainedExtractor
    assert kwargs["net_arch"] == [32]
    arguments = kwargs["features_extractor_kwargs"]
    assert arguments["sha256"] == make_encoder("random.nature").sha256
    assert arguments["dtype"] == "bfloat16"
    assert all(isinstance(value, str | int | bool | None) for value in arguments.values())


def test_extractors_are_copied_and_pickled_without_the_encoder() -> None:
    extractor = PretrainedExtractor(FRAMES, "random.nature", features_dim=16)
    batch = torch.rand(2, 4, 84, 84)
    expected = extractor(batch)
    data = pickle.dumps(extractor)
    assert first_bytes(extractor.encoder_on("cpu")) not in data
    for copy in (deepcopy(extractor), pickle.loads(data)):
        assert torch.equal(copy(batch), expected)
        assert copy.encoder_on("cpu") is extractor.encoder_on("cpu")


@pytest.mark.parametrize("dtype", ["bfloat16", "auto"])
def test_fast_dtypes_give_float32_to_the_neck(dtype: str) -> None:
    extractor = PretrainedExtractor(FRAMES, "random.nature", neck=None, dtype=dtype)
    exact = PretrainedExtractor(FRAMES, "random.nature", neck=None)
    batch = torch.as_tensor(frames()).float() / 255
    assert extractor(batch).dtype == torch.float32
    assert (extractor(batch) - exact(batch)).abs().max() <= 0.03 * exact(batch).abs().max()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"random\.nature"):
        policy_kwargs("random.natur")
    with pytest.raises(InputError, match="name or path, got Encoder"):
        policy_kwargs(make_encoder("random.nature"))
    with pytest.raises(InputError, match="unknown neck 'mpl'"):
        PretrainedExtractor(FRAMES, "random.nature", neck="mpl")
    with pytest.raises(InputError, match="features_dim must be positive"):
        PretrainedExtractor(FRAMES, "random.nature", features_dim=0)
    with pytest.raises(InputError, match="unknown dtype 'half16'"):
        policy_kwargs("random.nature", dtype="half16")
