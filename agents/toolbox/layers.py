"""Layers that several networks are made of."""

from torch import nn


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes, each followed by a ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)
