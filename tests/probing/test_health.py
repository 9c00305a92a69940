"""Measures without labels, against what they must be."""

import math

import pytest
import torch

from pretrainrl.errors import InputError
from pretrainrl.probing.probes import (
    CollapseWatch,
    dormant_ratio,
    knn_accuracy,
    principal_components,
    rankme,
    spectrum,
)


def features_of(singular_values: list[float], n: int, d: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(n, len(singular_values), generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(d, len(singular_values), generator=generator, dtype=torch.float64))
    return left @ torch.diag(torch.tensor(singular_values, dtype=torch.float64)) @ right.T


@pytest.mark.parametrize(("n", "d"), [(50, 12), (12, 50)])
def test_spectrum_and_rankme_of_known_values(n: int, d: int):
    flat = spectrum(features_of([2.0] * 7, n, d))
    assert flat.tolist() == pytest.approx([2.0] * 7 + [0.0] * 5, abs=1e-6)
    assert rankme(flat) == pytest.approx(7, rel=1e-4)
    shares = [0.5, 0.25, 0.25]
    entropy = -sum(share * math.log(share) for share in shares)
    assert rankme(spectrum(features_of([8.0, 4.0, 4.0], n, d))) == pytest.approx(math.exp(entropy), rel=1e-4)


def test_rankme_of_constant_and_of_silent_features():
    assert rankme(spectrum(torch.ones(20, 5))) == pytest.approx(1, abs=1e-4)
    assert rankme(spectrum(torch.zeros(20, 5))) == 0


def test_dormant_ratio():
    assert dormant_ratio(torch.tensor([1.0, 1.0, 0.0, 1.0])) == 0.25
    assert dormant_ratio(torch.tensor([1.0, 1.0, 0.01, 0.5])) == 0.25  # 0.025 of the mean, 0.63, is 0.016
    assert dormant_ratio(torch.zeros(3)) == 1


def test_knn_tells_clusters_apart_and_not_noise():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    clusters = torch.eye(3)[labels] * 10 + torch.randn(60, 3, generator=generator)
    assert knn_accuracy(clusters[:45], labels[:45], clusters[45:], labels[45:]) == 1
    noise = torch.randn(600, 8, generator=generator)
    labels = torch.arange(600) % 3
    assert knn_accuracy(noise[:450], labels[:450], noise[450:], labels[450:]) == pytest.approx(1 / 3, abs=0.12)


def test_principal_components_are_those_of_the_centred_features():
    features = features_of([9.0, 3.0, 1.0], 40, 10) + 5
    points = principal_components(features)
    left, values, _ = torch.linalg.svd(features - features.mean(0), full_matrices=False)
    assert torch.allclose(points.abs(), (left[:, :2] * values[:2]).abs(), atol=1e-6)
    with pytest.raises(InputError, match="at least two"):
        principal_components(features[:1])


def test_collapse_is_told_once_and_only_when_it_happens():
    watch = CollapseWatch()
    assert [watch.message(step, {"feature_std": value}) for step, value in enumerate((0.1, 1.0, 0.5, 0.011))] == [None] * 4
    assert "feature_std is 0.009 at step 4 and was 1 before" in (watch.message(4, {"feature_std": 0.009}) or "")
    assert watch.message(5, {"feature_std": 0.0}) is None
    assert CollapseWatch().message(1, {"loss": 1.0}) is None
