"""Every registered encoder, and every way to break the contract."""

import copy
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

import pretrainrl
from pretrainrl.encoders import Encoder, cached_encoder
from pretrainrl.encoders.check import EncoderContractError, verify_encoder
from pretrainrl.encoders.observation_encoder import ObservationEncoder
from pretrainrl.errors import InputError
from pretrainrl.weights import fetch, read_tensors

NAMES = pretrainrl.list_encoders()


def golden_frames() -> Tensor:
    return read_tensors(fetch(["bundled:golden.safetensors"]).path)["observation"]


@pytest.fixture(scope="module", params=NAMES)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return pretrainrl.make_encoder(request.param)


def test_contract(encoder: Encoder):
    pretrainrl.check_encoder(encoder)


@pytest.mark.parametrize("name", NAMES)
def test_golden_values(name: str):
    verify_encoder(name)


def test_bfloat16_stays_near_float32(encoder: Encoder):
    fast = pretrainrl.make_encoder(encoder.name, dtype=torch.bfloat16)
    pretrainrl.check_encoder(fast)
    exact = encoder(golden_frames())
    error = (fast(golden_frames()).float() - exact).abs().max() / exact.abs().max()
    assert 0 < error < 0.03


def test_features_are_the_map_flattened_or_averaged(encoder: Encoder):
    frames = golden_frames()[:2]
    feature_map = encoder.feature_map(frames)
    flat = pretrainrl.make_encoder(encoder.name, features="flat")(frames)
    pooled = pretrainrl.make_encoder(encoder.name, features="pooled")(frames)
    torch.testing.assert_close(flat, feature_map.reshape(2, -1))
    torch.testing.assert_close(pooled, feature_map.mean((2, 3)))


def test_arrays_are_welcome(encoder: Encoder):
    frames = golden_frames()[:1]
    assert torch.equal(encoder(frames.numpy()), encoder(frames))


def test_construction_leaves_the_random_state(encoder: Encoder):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    pretrainrl.make_encoder(encoder.name)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (torch.zeros(4, 84, 84, dtype=torch.uint8), r"add a batch axis"),
        (torch.zeros(2, 84, 84, 4, dtype=torch.uint8), r"channels come last"),
        (torch.zeros(2, 4, 84, 84, 3, dtype=torch.uint8), r"an RGB stack"),
        (torch.zeros(2, 4, 64, 64, dtype=torch.uint8), r"\(batch, 4, 84, 84\), got \(2, 4, 64, 64\)"),
        (torch.zeros(2, 4, 84, 84, dtype=torch.int64), r"uint8 in \[0, 255\] or floats in \[0, 1\], got torch.int64"),
        (torch.full((2, 4, 84, 84), 255.0), r"in \[0, 1\], got \[255, 255\]; divide by 255"),
        (torch.full((2, 4, 84, 84), torch.nan), r"got \[nan, nan\]"),
        (np.full((2, 4, 84, 84), -0.1, np.float32), r"got \[-0.1, -0.1\]"),
    ],
)
def test_bad_observations_are_explained(observation: Tensor, message: str):
    with pytest.raises(InputError, match=message):
        cached_encoder("random.nature")(observation)


def test_one_encoder_a_process():
    assert cached_encoder("random.nature") is cached_encoder("random.nature", device="cpu")
    assert cached_encoder("random.nature") is cached_encoder("random.nature", dtype=torch.float32)
    assert cached_encoder("random.nature") is not cached_encoder("random.nature", features="pooled")


def test_the_cache_is_bounded_and_can_be_cleared() -> None:
    dropped = weakref.ref(cached_encoder("random.nature", features="pooled", dtype="bfloat16"))
    held = cached_encoder("random.nature", features="pooled")
    for name in NAMES[:8]:
        cached_encoder(name)
    assert dropped() is None, "nothing holds it, and eight others were asked for since"
    assert cached_encoder("random.nature", features="pooled") is held
    pretrainrl.clear_encoder_cache()
    assert cached_encoder("random.nature", features="pooled") is not held


def test_prepared_layers_can_be_left_out() -> None:
    plain, prepared = (pretrainrl.make_encoder("random.nature", prepared=prepared) for prepared in (False, True))
    assert {type(layer) for layer in plain.backbone.layers} == {nn.Conv2d, nn.ReLU}
    assert not {type(layer) for layer in prepared.backbone.layers} & {nn.Conv2d, nn.ReLU}
    assert not any(parameter.requires_grad for parameter in plain.parameters())
    frames = torch.randint(0, 256, (2, 4, 84, 84), dtype=torch.uint8)
    torch.testing.assert_close(plain(frames), prepared(frames))


def test_trainable_encoders_learn_and_change_mode():
    encoder = pretrainrl.make_encoder("random.nature", trainable=True)
    assert encoder.train().backbone.training and not encoder.eval().backbone.training
    encoder(golden_frames()).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_copies_and_pickles_stay_frozen():
    encoder = pretrainrl.make_encoder("random.nature")
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        pretrainrl.check_encoder(twin)
        assert torch.equal(twin(golden_frames()), encoder(golden_frames()))


@pytest.mark.parametrize("options", [{"dtype": torch.float16}, {"dtype": torch.int64}, {"features": "max"}])
def test_bad_options(options: dict[str, object]):
    with pytest.raises(InputError, match="must be"):
        pretrainrl.make_encoder("random.nature", **options)  # type: ignore[arg-type]


class Shifting(Encoder):
    """Breaks several clauses: not repeatable, trains, and takes anything."""

    def forward(self, obs: Any) -> Tensor:
        noise = torch.rand(obs.shape[0], self.features_dim)
        return noise * next(self.backbone.parameters()).sum()

    def train(self, mode: bool = True) -> "Shifting":
        torch.nn.Module.train(self, mode)
        return self


def test_check_encoder_lists_every_broken_clause():
    good = pretrainrl.make_encoder("random.nature")
    bad = Shifting(copy.deepcopy(good.backbone), good.card, good.sha256)
    bad.requires_grad_(True)
    with pytest.raises(EncoderContractError) as error:
        pretrainrl.check_encoder(bad)
    for clause in ("same features twice", "rest of the batch", "is refused", "stays in eval mode", "random state"):
        assert clause in str(error.value)


@pytest.mark.filterwarnings("error")
def test_flipped_and_read_only_frames() -> None:
    """NumPy's views of frames that PyTorch would refuse, or warn of."""
    encoder, reader = (
        pretrainrl.make_encoder("random.nature"),
        ObservationEncoder("random.nature", Box(0, 255, (4, 84, 84), np.uint8)),
    )
    frames = np.random.default_rng(0).integers(256, size=(2, 4, 84, 84), dtype=np.uint8)
    flipped = frames[:, ::-1, ::-1, ::-1].copy()[:, ::-1, ::-1, ::-1]
    read_only = frames.copy()
    read_only.flags.writeable = False
    for each in (flipped, read_only, np.moveaxis(np.moveaxis(frames, 1, -1).copy(), -1, 1)):
        assert torch.equal(encoder(each), encoder(frames))
        assert np.array_equal(reader(each), reader(frames))
        assert torch.equal(reader.stacks(each), torch.from_numpy(frames))
