"""All probes of an encoder on games that were really played."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pretrainrl.cards import EncoderCard
from pretrainrl.data.episode import Episode
from pretrainrl.encoders import Encoder, make_encoder
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.probing import Probe, Samples, probe, take_samples


@pytest.fixture(scope="module")
def random_probe(samples: list[Samples]) -> Probe:
    return probe(make_encoder("random.nature"), samples)


def encoder_of(backbone: nn.Module, name: str = "mine.test") -> Encoder:
    card = make_encoder("random.nature").card
    shape = backbone.feature_map_shape
    assert isinstance(shape, tuple)
    own: EncoderCard = card.model_copy(update={"name": name, "feature_map_shape": shape})
    return Encoder(backbone, own, "0" * 64)


class Constant(nn.Module):
    """Sees nothing."""

    feature_map_shape = (3, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0, 0.0]))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.weight.reshape(1, 3, 1, 1).expand(len(obs), 3, 2, 2)


def test_observations_are_stacks_of_the_episodes_frames(played: dict[str, Sequence[Episode]]):
    episodes = played["pong"]
    samples = take_samples(episodes, every=3)
    assert len(samples) == -(-sum(map(len, episodes)) // 3)
    for row in (0, 1, len(samples) // 2, len(samples) - 1):
        episode, time = episodes[int(samples.episodes[row])], int(samples.times[row])
        expected = [episode.frames[t] if t >= 0 else np.zeros((84, 84)) for t in range(time - 3, time + 1)]
        assert np.array_equal(samples.observations[row].numpy(), np.stack(expected))
        assert samples.actions[row] == episode.actions[time]
        assert samples.reward_signs[row] == np.sign(episode.rewards[time])
        assert samples.ram is not None and np.array_equal(samples.ram[row].numpy(), episode.infos["ram"][time])


def test_an_untrained_network_knows_something(random_probe: Probe):
    metrics = random_probe.metrics
    assert metrics["ram_balanced_accuracy"] > metrics["ram_chance"] + 0.1
    assert metrics["knn_game_accuracy"] > 0.95
    assert 1 < metrics["rankme"] < 480
    assert [game.game for game in random_probe.games] == ["breakout", "pong"]
    assert all(0 <= byte < 128 and 0 < chance <= 0.5 for game in random_probe.games for byte, _, chance in game.ram)
    assert random_probe.notes == ()


def test_equal_seeds_give_equal_numbers(random_probe: Probe, samples: list[Samples]):
    again = probe(make_encoder("random.nature"), samples)
    assert again == random_probe  # every metric and byte, to the last bit
    assert torch.equal(again.views.points, random_probe.views.points)
    other = probe(make_encoder("random.nature"), samples, seed=1)
    assert other.games[0].ram != random_probe.games[0].ram


def test_a_blind_encoder_is_at_chance_and_said_to_have_collapsed(samples: list[Samples]):
    measured = probe(encoder_of(Constant()), samples)
    metrics = measured.metrics
    assert metrics["ram_balanced_accuracy"] == pytest.approx(metrics["ram_chance"], abs=1e-9)
    assert metrics["rankme"] == pytest.approx(1, abs=1e-4)
    assert metrics["dormant_ratio"] == pytest.approx(1 / 3)
    assert metrics["feature_spread"] == 0
    assert "collapsed" in measured.notes[0]


def test_the_metrics_fit_into_a_card(random_probe: Probe, tmp_path):
    card = make_encoder("random").card.model_copy(update={"metrics": random_probe.metrics})
    card.write(tmp_path / "card.toml")
    assert EncoderCard.read(tmp_path / "card.toml").metrics == random_probe.metrics


def test_what_cannot_be_probed_is_left_out_with_a_note(samples: list[Samples]):
    dull = replace(
        samples[1], ram=None, actions=torch.zeros_like(samples[1].actions), reward_signs=torch.zeros_like(samples[1].actions)
    )
    measured = probe(make_encoder("random.nature"), [dull])
    assert [note.split(":")[0] for note in measured.games[0].notes] == ["no RAM probe", "no action probe", "no reward probe"]
    assert set(measured.metrics) == {"rankme", "dormant_ratio", "feature_spread"}


def test_memory_that_never_changes_is_left_out(samples: list[Samples]):
    assert samples[0].ram is not None
    still = replace(samples[0], ram=torch.zeros_like(samples[0].ram))
    measured = probe(make_encoder("random.nature"), [still])
    assert "no RAM probe: no byte varies enough" in measured.games[0].notes


def test_bad_input_is_refused(played: dict[str, Sequence[Episode]], samples: list[Samples]):
    encoder = make_encoder("random.nature")
    with pytest.raises(InputError, match="at least one game"):
        probe(encoder, [])
    with pytest.raises(InputError, match="each game once; got pong, pong"):
        probe(encoder, [samples[1], samples[1]])
    with pytest.raises(DatasetError, match="no episodes"):
        take_samples([])
    with pytest.raises(InputError, match="breakout, pong"):
        take_samples([*played["pong"], *played["breakout"]])
    with pytest.raises(InputError, match="every"):
        take_samples(played["pong"], every=0)
    broken = Constant()
    broken.weight.data[0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        probe(encoder_of(broken), samples)
