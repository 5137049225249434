"""UnitySpatial: rooms in which three objects are moved about, pictures of them, and words for what stands where."""

from mentorgym.envs.spatial import language
from mentorgym.envs.spatial.arrangement import Arrangement
from mentorgym.envs.spatial.env import SpatialEnv
from mentorgym.envs.spatial.objects import OBJECTS
from mentorgym.envs.spatial.rooms import ROOMS
from mentorgym.envs.spatial.samples import Samples
from mentorgym.envs.spatial.vector import SpatialVectorEnv

__all__ = ["OBJECTS", "ROOMS", "Arrangement", "Samples", "SpatialEnv", "SpatialVectorEnv", "language"]
