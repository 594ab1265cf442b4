"""Charts over time of what locust's own charts leave out: a page beside its web page."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).with_name("charts.html")
SECONDS: Final = 2
"""From one point to the next."""

POINTS: Final = 1800
"""Points that are kept: an hour."""

Sums = Mapping[str, tuple[int, float]]
"""By quantity: how many there have been since the start, and their sum."""


class History:
    """Means of the quantities between one look and the next, and answers a second.

    Args:
        sums: what has been counted so far.
        rate: the quantity whose number a second is charted too.
        clock: monotonic seconds.
    """

    def __init__(self, sums: Callable[[], Sums], rate: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._sums = sums
        self._rate = rate
        self._clock = clock
        self._started = self._looked = clock()
        self._before: Sums = {}
        self.points: deque[dict[str, float]] = deque(maxlen=POINTS)

    def look(self) -> None:
        """Add a point: quantities of which nothing new came are left out of it."""
        now, sums = self._clock(), dict(self._sums())
        point = {"seconds": round(now - self._started, 1)}
        for name, (count, total) in sums.items():
            count_before, total_before = self._before.get(name, (0, 0.0))
            new = count - count_before
            if new > 0:
                point[name] = (total - total_before) / new
            if name == self._rate:
                point["answers per second"] = max(0, new) / (now - self._looked)
        self._before, self._looked = sums, now
        self.points.append(point)
