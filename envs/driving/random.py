"""Random numbers by counter: each depends on its arguments alone, whatever was drawn before or beside it."""

from mentorgym.envs.driving.kernel import f32, inline, kernel, u64


@kernel
def mix(value):
    """splitmix64's finaliser (Steele, Lea, Flood 2014): a bijection of uint64 that passes for random."""
    z = u64(value) + u64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
    return z ^ (z >> u64(31))


@inline
def random_bits(key, stream, actor, tick):
    """A uint64 that depends on its four arguments alone: `key` of the episode, `stream` of the purpose, actor, tick."""
    return mix(mix(u64(key) ^ (u64(stream) << u64(56))) ^ (u64(actor) << u64(32)) ^ u64(tick))


@inline
def uniform(key, stream, actor, tick):
    """A float32 in [0, 1) from `random_bits`."""
    return f32(random_bits(key, stream, actor, tick) >> u64(40)) * f32(2.0**-24)


def episode_key(seed: int, episode: int) -> int:
    """The key of an environment's `episode`-th episode (from 0) under `seed`, a uint64."""
    return int(mix(u64(int(mix(u64(seed & 0xFFFFFFFFFFFFFFFF))) ^ episode)))
