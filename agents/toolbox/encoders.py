"""What all agents see with, and act through: the image encoders, and the policy that is an encoder and an actor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from mentorgym.agents.toolbox.masks import CHANNELS, PatchConvolution, pack_observations, unpack
from mentorgym.agents.toolbox.replay import STATE_SIZE
from mentorgym.agents.toolbox.runs import to_tensors

FEATURES = 256


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes, each followed by a ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class SmallEncoder(nn.Module):
    """Masks `packed` uint8 [B, 25344] and `state` float32 [B, 10] to features [B, 256].

    The first convolution takes patches of 4 x 4 pixels (1.6 m), and the packed masks as they are.
    """

    # Velocities (4, 5) reach about 10 m/s and the light's code (6) reaches 3; the rest is within [-1, 1].
    STATE_SCALE = (1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 1 / 3, 1.0, 1.0, 1.0)
    state_scale: torch.Tensor

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(
            PatchConvolution(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.masks = nn.Sequential(nn.Linear(64 * 6 * 6, FEATURES - 64), nn.LayerNorm(FEATURES - 64), nn.Tanh())
        self.state = nn.Sequential(nn.Linear(STATE_SIZE, 64), nn.Tanh())
        self.register_buffer("state_scale", torch.tensor(self.STATE_SCALE), persistent=False)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        masks = self.masks(self.convolutions(observations["packed"]))
        return torch.cat([masks, self.state(observations["state"] * self.state_scale)], dim=1)


class FoundRLEncoder(nn.Module):
    """Found-RL's extractor (its code's `Lite`): `packed` uint8 [B, 25344] and `state` [B, 10] to features [B, 256]."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = []
        channels = (CHANNELS, 32, 64, 128, 256)
        for inputs, outputs in zip(channels[:-1], channels[1:], strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
        self.masks = nn.Sequential(*layers, nn.Conv2d(channels[-1], 64, 1), nn.ReLU(), nn.Flatten())
        self.state = mlp(STATE_SIZE, 256, 256)
        self.fuse = mlp(64 * 6 * 6 + 256, 256, FEATURES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight, nn.init.calculate_gain("relu"))
                nn.init.zeros_(module.bias)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        masks = self.masks(unpack(observations["packed"]).float().div_(255))
        return self.fuse(torch.cat([masks, self.state(observations["state"])], dim=1))


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "small": SmallEncoder,
    "small-separate": SmallEncoder,
    "found-rl": FoundRLEncoder,
}
"""By the name that the flag `encoder` has for it; of those but `small`, actor, critics and targets own one each."""


class Policy(nn.Module):
    """An encoder and the agent's actor behind it: all that is needed to drive."""

    def __init__(self, encoder: nn.Module, actor: Any):
        super().__init__()
        self.encoder, self.actor = encoder, actor

    @torch.no_grad()
    def act(self, observations: dict[str, np.ndarray], explore: bool = False) -> np.ndarray:
        """Actions float32 [N, 2] for `bev` uint8 [N, 15, 96, 96] and `state` float32 [N, 10]: sampled, or the best."""
        features = self.encoder(to_tensors(pack_observations(observations), next(self.parameters()).device))
        return self.actor.act(features, explore).cpu().numpy()
