"""What follows a tick of a world, up to the observation."""

from mentorgym.envs.driving.kernel import kernel
from mentorgym.envs.driving.task.reward import accumulate, found_rl
from mentorgym.envs.driving.task.rules import update
from mentorgym.envs.driving.task.termination import check

RULES, REWARD, CLOSE = 1, 2, 4
"""The parts of `settle`, which a reward of another kind comes between."""


@kernel
def settle(tables, world, episode, first, last, ends, training, parts, terminated, truncated, reward):
    """Settle the step of every ego of worlds `first:last`, in these `parts` (a sum of the above):

    - RULES: what has happened (`rules.update`) and which episodes end (`termination.check`, which explains `ends`,
      `training`, `terminated` and `truncated`)
    - REWARD: Found-RL's (`reward.found_rl`), into `reward`, float64 [A]
    - CLOSE: `reward.accumulate`
    """
    egos = world.ego_control.shape[1]
    first_row, last_row = first * egos, last * egos
    ticked = parts & RULES != 0
    if ticked:
        update(tables, world, episode, first_row, last_row, ticked)
        check(episode, first_row, last_row, ends, training, terminated, truncated)
    if parts & REWARD:
        found_rl(world, episode, first_row, last_row, reward)
    if parts & CLOSE:
        accumulate(world, episode, first_row, last_row, reward)
