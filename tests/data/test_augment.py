import pytest
import torch

from pretrainrl.data.augment import augment, intensity, random_shift, shift


def slow_shift(frames, down, right, pad):
    """Replicate padding by definition: output pixel (y, x) is input pixel (y + down - pad, x + right - pad), clamped."""
    shifted = torch.empty_like(frames)
    height, width = frames.shape[2:]
    for sample in range(len(frames)):
        for y in range(height):
            for x in range(width):
                row = min(max(y + int(down[sample]) - pad, 0), height - 1)
                column = min(max(x + int(right[sample]) - pad, 0), width - 1)
                shifted[sample, :, y, x] = frames[sample, :, row, column]
    return shifted


@pytest.mark.parametrize("size", [(9, 7), (5, 18)], ids=["feature map", "image"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_shift_equals_its_definition_at_every_offset(dtype, size):
    pad = 2
    offsets = torch.cartesian_prod(torch.arange(2 * pad + 1), torch.arange(2 * pad + 1))
    down, right = offsets.T.reshape(2, -1, 1, 1)
    frames = torch.randint(256, (len(offsets), 3, *size)).to(dtype)
    assert torch.equal(shift(frames, down, right, pad), slow_shift(frames, down, right, pad))


def test_shift_of_a_view_equals_that_of_its_copy():
    frames = torch.randint(256, (4, 6, 84, 84), dtype=torch.uint8)[:, 1:5]
    torch.manual_seed(0)
    of_view = random_shift(frames)
    torch.manual_seed(0)
    assert torch.equal(of_view, random_shift(frames.contiguous()))


def test_random_shift_draws_every_offset_once_a_sample_and_shares_it_among_frames():
    ramp = torch.arange(84) + 100 * torch.arange(84)[:, None]
    frames = ramp.expand(2000, 2, 84, 84)
    torch.manual_seed(0)
    shifted = random_shift(frames)
    assert torch.equal(shifted[:, 0], shifted[:, 1])
    centre = shifted[:, 0, 42, 42] - ramp[42, 42]
    offsets = {(int(c + 50) // 100, (int(c) + 50) % 100 - 50) for c in centre}
    assert offsets == {(y, x) for y in range(-4, 5) for x in range(-4, 5)}


def test_intensity_is_one_clipped_factor_a_sample():
    torch.manual_seed(0)
    factors = intensity(torch.ones(20_000, 2, 3, 1))
    assert torch.equal(factors, factors[:, :1, :1].expand_as(factors))
    factors = factors[:, 0, 0, 0]
    assert factors.min() == pytest.approx(0.9, abs=1e-6) and factors.max() == pytest.approx(1.1, abs=1e-6)
    assert factors.mean() == pytest.approx(1, abs=2e-3)
    assert factors.std() == pytest.approx(0.05 * 0.8796**0.5, rel=0.03)  # variance of a normal clipped at two deviations: 0.92
    torch.manual_seed(1)
    noise = torch.randn(2, 1, 1, 1).clamp(-2, 2)
    torch.manual_seed(1)
    assert torch.equal(intensity(torch.ones(2, 1, 1, 1)), 1 + 0.05 * noise)


def test_augment_is_shift_then_scale_then_intensity():
    frames = torch.randint(256, (5, 4, 84, 84), dtype=torch.uint8)
    torch.manual_seed(3)
    expected = intensity(random_shift(frames).float() / 255)
    torch.manual_seed(3)
    augmented = augment(frames)
    assert torch.equal(augmented, expected)
    assert augmented.dtype == torch.float32 and augmented.shape == frames.shape
    assert not torch.equal(augment(frames), augmented)
