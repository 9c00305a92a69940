"""The linear probe finds what is there and nothing else."""

import pytest
import torch
import torch.nn.functional as F

from pretrainrl.probing.probes import LinearProbe, balanced_accuracy
from pretrainrl.probing.samples import CLASSES, LEAST_ENTROPY, ram_classes

TRAIN, TEST = 600, 200


def noise(features: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(TRAIN + TEST, features, generator=torch.Generator().manual_seed(seed))


def classify(features: torch.Tensor, labels: torch.Tensor, balanced: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean recall of the test side, and chance."""
    predicted = LinearProbe(features[:TRAIN], features[TRAIN:]).classify(labels[:TRAIN], balanced=balanced)
    return balanced_accuracy(predicted, labels[TRAIN:])


@pytest.mark.parametrize("features", [40, 900])  # fewer and more than observations: both forms of the solution
def test_a_byte_that_is_a_feature_is_read(features: int):
    labels = torch.randint(5, (TRAIN + TEST, 3), generator=torch.Generator().manual_seed(1))
    hidden = noise(features)
    hidden[:, :3] = 100 + 50.0 * labels  # its number, not an indicator for each class: those between must be found too
    # Five hundred useless features are about as many as there are observations: they cost a little.
    accuracy, chance = classify(hidden, labels)
    assert torch.allclose(chance, torch.full((3,), 0.2, dtype=torch.float64))
    assert (accuracy == 1).all() if features == 40 else (accuracy > 0.35).all()


def test_indicators_are_read_among_many_features():
    labels = torch.randint(4, (TRAIN + TEST, 1), generator=torch.Generator().manual_seed(2))
    features = torch.cat([F.one_hot(labels[:, 0]).float(), torch.zeros(TRAIN + TEST, 1000)], 1)
    assert classify(features, labels)[0].item() == 1


def test_random_features_are_at_chance():
    labels = torch.randint(4, (TRAIN + TEST, 20), generator=torch.Generator().manual_seed(3))
    accuracy, chance = classify(noise(50), labels)
    assert chance[0] == 0.25
    assert accuracy.mean().item() == pytest.approx(0.25, abs=0.02)


def test_several_labels_at_once_are_as_one_by_one():
    labels = torch.randint(3, (TRAIN + TEST, 4), generator=torch.Generator().manual_seed(4))
    labels[:, 0] %= 2  # with fewer classes than the others
    features = noise(30) + labels[:, :1] + 2 * labels[:, 1:2]
    probe = LinearProbe(features[:TRAIN], features[TRAIN:])
    together = probe.classify(labels[:TRAIN], balanced=True)
    for number in range(4):
        alone = probe.classify(labels[:TRAIN, number : number + 1], balanced=True)
        assert torch.equal(alone[:, 0], together[:, number])


def test_two_classes_are_those_of_fishers_discriminant():
    """Two classes, equal weights: the sign of (x - middle)' C^-1 (difference of means), with the same ridge in C."""
    labels = (noise(1, 5)[:, 0] > 0.8).long()
    features = noise(6, 6) @ noise(6, 7)[:6] + labels[:, None] * torch.arange(6.0)
    train, test = features[:TRAIN], features[TRAIN:]
    predicted = LinearProbe(train, test).classify(labels[:TRAIN, None], balanced=True)[:, 0]
    mean, std = train.mean(0), train.std(0)
    x, z = (train - mean) / std, (test - mean) / std
    means = torch.stack([x[labels[:TRAIN] == c].mean(0) for c in (0, 1)])
    direction = torch.linalg.solve(x.T @ x / TRAIN + 0.1 * torch.eye(6), means[1] - means[0])
    expected = ((z - means.mean(0)) @ direction > 0).long()
    assert (predicted == expected).double().mean() > 0.99


def test_rare_classes_count_as_much_only_when_balanced():
    labels = (noise(1, 8)[:, :1] > 1.6).long()  # about one in twenty
    features = noise(5, 9) + labels
    assert classify(features, labels, balanced=True)[0] > classify(features, labels, balanced=False)[0] + 0.1


def test_balanced_accuracy_by_hand():
    labels = torch.tensor([[0, 0, -1], [0, 1, -1], [0, 2, -1], [1, -1, -1]])
    predicted = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 2, 0], [0, 2, 0]])
    accuracy, chance = balanced_accuracy(predicted, labels)
    assert accuracy[:2].tolist() == pytest.approx([(2 / 3 + 0) / 2, (1 + 0 + 1) / 3])
    assert chance[:2].tolist() == pytest.approx([1 / 2, 1 / 3])
    assert accuracy[2].isnan()


def test_which_bytes_are_probed():
    ram = torch.zeros(1000, 128, dtype=torch.uint8)
    ram[:, 3] = torch.arange(1000) % 3 * 100  # three values
    ram[:, 5] = torch.arange(1000) % 250  # many
    ram[:, 7] = (torch.arange(1000) % 10 == 0).byte()  # two, one of them rare
    labels, probed = ram_classes(ram, torch.arange(900))
    assert probed.tolist() == [3, 5]
    assert labels[:4, 0].tolist() == [0, 1, 2, 0]
    assert labels[:900, 1].bincount().tolist() == pytest.approx([900 / CLASSES] * CLASSES, rel=0.05)
    assert (labels[:250, 1].diff() >= 0).all()
    assert 0 < LEAST_ENTROPY < 0.6931


def test_values_that_training_lacks_do_not_count():
    ram = torch.zeros(100, 128, dtype=torch.uint8)
    ram[:, 0] = torch.arange(100) % 2
    ram[90:, 0] = 9
    labels, probed = ram_classes(ram, torch.arange(90))
    assert probed.tolist() == [0] and labels[90:].unique().tolist() == [-1]
