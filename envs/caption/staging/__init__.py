"""Scenes of our own: front-camera pictures staged on the streets of our towns, with labels from geometry."""

from mentorgym.envs.caption.staging.scenes import StagedScenes

__all__ = ["StagedScenes"]
