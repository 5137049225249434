"""Traffic lights: fixed cycles, one arm of a junction after the other, as a function of time alone."""

from mentorgym.envs.driving.kernel import f32, inner
from mentorgym.envs.driving.random import uniform
from mentorgym.envs.driving.worlds.simulator.records import STREAM_LIGHT
from mentorgym.envs.driving.worlds.state import LIGHT_GREEN, LIGHT_RED, LIGHT_YELLOW, TICK


@inner
def set_lights(tables, town, key, tick, light_state, light_elapsed, light_duration):
    """Write one world's lights (arrays [L]) at `tick`; each junction starts somewhere in its cycle, drawn by `key`."""
    first = tables.light_first[town]
    for i in range(tables.light_first[town + 1] - first):
        cycle, start = tables.light_phase[first + i, 0], tables.light_phase[first + i, 1]
        green, yellow = tables.light_phase[first + i, 2], tables.light_phase[first + i, 3]
        offset = uniform(key, STREAM_LIGHT, tables.light_junction[first + i], 0) * cycle
        now = (f32(tick) * f32(TICK) + offset - start) % cycle
        if now < green:
            light_state[i], light_elapsed[i], light_duration[i] = LIGHT_GREEN, now, green
        elif now < green + yellow:
            light_state[i], light_elapsed[i], light_duration[i] = LIGHT_YELLOW, now - green, yellow
        else:
            light_state[i], light_elapsed[i], light_duration[i] = (
                LIGHT_RED,
                now - green - yellow,
                cycle - green - yellow,
            )
