"""What long-running stages call after each of their steps."""

import itertools
from collections.abc import Callable, Mapping

StepCallback = Callable[[int, int, Mapping[str, float]], None]
"""Called after a step with its number, the number of steps and its metrics."""

StageCallback = Callable[[str], StepCallback]
"""Called at the start of a stage with its name; returns what to call after each of its steps."""


def counted(done: StepCallback, total: int) -> Callable[[], None]:
    """What to call after each of ``total`` steps that have no metrics."""
    count = itertools.count(1)
    return lambda: done(next(count), total, {})
