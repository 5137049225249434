"""Traffic lights: fixed cycles, one arm of a junction after the other, as a function of time alone."""

from mentorgym.envs.driving.kernel import f32, inner
from mentorgym.envs.driving.random import uniform
from mentorgym.envs.driving.worlds.simulator.records import STREAM_LIGHT
from mentorgym.envs.driving.worlds.state import LIGHT_GREEN, LIGHT_RED, LIGHT_YELLOW, TICK


@inner
def set_lights(tables, world, traffic, b):
    """Write one world's lights at its tick; each junction starts somewhere in its cycle, drawn by the world's key."""
    first = tables.light_first[world.town[b]]
    for i in range(tables.light_first[world.town[b] + 1] - first):
        cycle, start = tables.light_phase[first + i, 0], tables.light_phase[first + i, 1]
        green, yellow = tables.light_phase[first + i, 2], tables.light_phase[first + i, 3]
        offset = uniform(traffic.key[b], STREAM_LIGHT, tables.light_junction[first + i], 0) * cycle
        now = (f32(world.tick[b]) * f32(TICK) + offset - start) % cycle
        if now < green:
            state, elapsed, duration = LIGHT_GREEN, now, green
        elif now < green + yellow:
            state, elapsed, duration = LIGHT_YELLOW, now - green, yellow
        else:
            state, elapsed, duration = LIGHT_RED, now - green - yellow, cycle - green - yellow
        world.light_state[b, i], world.light_elapsed[b, i], world.light_duration[b, i] = state, elapsed, duration
