"""Packed masks come back as they were, and a convolution that reads them packed is a plain convolution."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mentorgym.agents.toolbox import PatchConvolution, pack_observations, unpack
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
