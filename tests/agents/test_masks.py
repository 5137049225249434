"""Packed masks come back as they were, and a convolution that reads them packed is a plain convolution."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mentorgym.agents.toolbox import PatchConvolution, pack_observations, rotate, shift, unpack
from mentorgym.agents.toolbox.masks import CHANNEL_VALUES, unpack_with_torch


def draw_masks(count: int, blank: float, seed: int = 0) -> np.ndarray:
    """Masks uint8 [count, 15, 96, 96] of every value that each channel holds, a share `blank` of the pixels 0."""
    generator = np.random.default_rng(seed)
    masks = [generator.choice(np.array(values, np.uint8), size=(count, 96, 96)) for values in CHANNEL_VALUES]
    return np.stack(masks, axis=1) * (generator.random((count, 15, 96, 96)) >= blank)


def pack(masks: np.ndarray) -> torch.Tensor:
    packed = pack_observations({"bev": masks, "state": np.zeros((len(masks), 10), np.float32)})["packed"]
    assert packed.shape == (len(masks), 25_344)
    return torch.from_numpy(packed)


@settings(max_examples=10)
@given(count=st.integers(0, 3), blank=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 2**32 - 1))
def test_masks_come_back(count, blank, seed):
    masks = draw_masks(count, blank, seed)
    for found in (unpack(pack(masks)), unpack_with_torch(pack(masks))):
        assert found.dtype == torch.uint8
        np.testing.assert_array_equal(found, masks)


@pytest.mark.parametrize("blank", [0.0, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("outputs", [1, 16])
def test_the_patch_convolution_and_its_gradients_are_those_of_a_plain_one(blank, outputs):
    torch.manual_seed(0)
    masks = draw_masks(5, blank)
    ours, plain = PatchConvolution(outputs), nn.Conv2d(15, outputs, 4, stride=4)
    plain.load_state_dict(ours.state_dict())
    plain = plain.double()
    found, expected = ours(pack(masks)), plain(torch.from_numpy(masks).double() / 255)
    assert found.shape == (5, outputs, 24, 24)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    gradient = torch.randn_like(found)
    found.backward(gradient)
    expected.backward(gradient.double())
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad.double(), parameter.grad, rtol=1e-4, atol=1e-3)


def test_one_pixel_moves_its_patch_alone():
    masks = np.zeros((1, 15, 96, 96), np.uint8)
    convolution = PatchConvolution(3)
    blank = convolution(pack(masks))
    masks[0, 12, 41, 50] = 170
    moved = (convolution(pack(masks)) - blank).detach().abs().sum((0, 1))
    assert torch.nonzero(moved).tolist() == [[41 // 4, 50 // 4]]
    torch.testing.assert_close(moved[10, 12], 170 / 255 * convolution.weight[:, 12, 1, 2].detach().abs().sum())


def test_a_batch_is_its_rows():
    packed = pack(draw_masks(6, 0.9))
    convolution = PatchConvolution(16)
    whole = convolution(packed)
    # Rows may lie anywhere in memory.
    np.testing.assert_array_equal(convolution(packed[::2]).detach(), whole[::2].detach())


def test_shifts_are_drqv2s():
    generator = np.random.default_rng(0)
    pictures = draw_masks(30, 0.2)
    offsets = torch.from_numpy(generator.integers(-4, 5, (30, 2)))
    # arXiv 2107.09645, section 3.2: pad by repetition, shift by a whole number, interpolate.
    padded = torch.nn.functional.pad(torch.from_numpy(pictures).double(), (4, 4, 4, 4), mode="replicate")
    places = torch.arange(96).double()
    y, x = (2 * (places + 4 + offsets[:, i, None] + 0.5) / 104 - 1 for i in range(2))
    grid = torch.stack([x[:, None, :].expand(30, 96, 96), y[:, :, None].expand(30, 96, 96)], dim=3)
    expected = torch.nn.functional.grid_sample(padded, grid, align_corners=False)
    found = unpack(shift(pack(pictures), offsets))
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_shifts_with_black_edges_and_shifts_of_many_pixels():
    generator = np.random.default_rng(1)
    pictures = draw_masks(8, 0.2)
    offsets = generator.integers(-31, 32, (8, 2))
    black, repeated = np.zeros_like(pictures), np.zeros_like(pictures)
    for i, (down, right) in enumerate(offsets):
        for y in range(96):
            for x in range(96):
                if 0 <= y + down < 96 and 0 <= x + right < 96:
                    black[i, :, y, x] = pictures[i, :, y + down, x + right]
                repeated[i, :, y, x] = pictures[i, :, min(max(y + down, 0), 95), min(max(x + right, 0), 95)]
    packed = pack(pictures)
    np.testing.assert_array_equal(unpack(shift(packed, torch.from_numpy(offsets), repeat_edges=False)), black)
    np.testing.assert_array_equal(unpack(shift(packed, torch.from_numpy(offsets))), repeated)


def test_rotations_turn_counter_clockwise_about_the_centre():
    pictures = draw_masks(3, 0.2)
    packed = pack(pictures)
    quarter = unpack(rotate(packed, torch.tensor([np.pi / 2, -np.pi / 2, np.pi]))).numpy()
    for found, picture, turns in zip(quarter, pictures, (1, -1, 2), strict=True):
        np.testing.assert_array_equal(found, np.rot90(picture, turns, axes=(1, 2)))
    assert torch.equal(rotate(packed, torch.zeros(3)), packed)
    white = torch.full_like(packed[:1], 255)
    assert (unpack(rotate(white, torch.tensor([0.1])))[0, :, 0, 0] == 0).all()
