"""The scenarios: how many users there are at each moment, and what is special about a request."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

BURST_SECONDS: Final = 10
"""A burst scenario changes between few and all users this often."""

LONG_SHARE: Final = 0.1
"""Share of long answers in the long tail."""

HANG_UP_SHARE: Final = 0.3
"""Share of the clients that hang up, where some do."""


def steady(seconds: float, users: int, duration: float) -> int:
    """All users from the start."""
    return users


def ramp(seconds: float, users: int, duration: float) -> int:
    """One user at first, all of them after four fifths of the run."""
    return max(1, min(users, round(users * seconds / (0.8 * duration))))


def burst(seconds: float, users: int, duration: float) -> int:
    """A tenth of the users, and all of them, in turns."""
    return users if int(seconds // BURST_SECONDS) % 2 else max(1, users // 10)


CONTROLLED_SHARE: Final = 1 / 6
"""Share of requests with exit control, where some have it."""

CUT_SHARE: Final = 0.02
"""Share of requests there whose tokens run out while the model thinks."""

CONTROLS: Final[tuple[dict[str, Any], ...]] = (
    {"max_reasoning_steps": 2},
    {"thinking_token_budget": 40},
    {"early_exit": {"policy": "confidence", "threshold": 0.9}},
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """How load comes.

    Attributes:
        summary: what it is for.
        users: number of users by seconds since the start, most users, and seconds of the run.
        long_tail: some answers are made long.
        exit_control: some requests say when thinking has to end.
        many_keys: each user has its own API key.
        hang_ups: some clients go away in the middle of an answer.
    """

    summary: str
    users: Callable[[float, int, float], int] = steady
    long_tail: bool = False
    exit_control: bool = False
    many_keys: bool = False
    hang_ups: bool = False

    def fields(self, rng: random.Random) -> dict[str, Any]:
        """Fields of a request's body that the scenario adds."""
        if self.exit_control:
            return _exit_control(rng)
        if not self.long_tail or rng.random() >= LONG_SHARE:
            return {}
        tokens = min(800, int(100 * rng.paretovariate(1.2)))
        return {"min_tokens": tokens, "max_tokens": 2 * tokens}

    def chunks_before_hanging_up(self, rng: random.Random) -> int | None:
        """After how many chunks this client hangs up; None if it stays."""
        return rng.randint(1, 20) if self.hang_ups and rng.random() < HANG_UP_SHARE else None


def _exit_control(rng: random.Random) -> dict[str, Any]:
    chance = rng.random()
    if chance < CUT_SHARE:
        return {"max_tokens": 20}
    return dict(rng.choice(CONTROLS)) if chance < CUT_SHARE + CONTROLLED_SHARE else {}


SCENARIOS: Final = {
    "steady": Scenario("all users from start to end"),
    "ramp": Scenario("users grow from one to all", users=ramp),
    "burst": Scenario(f"a tenth of the users and all of them, {BURST_SECONDS} seconds each", users=burst),
    "long-tail": Scenario("a tenth of the answers is made long, by a heavy-tailed choice", long_tail=True),
    "exit-control": Scenario(
        "as ramp, with every kind of exit: a sixth of the answers is told when to stop thinking, a fiftieth is cut off",
        users=ramp,
        exit_control=True,
    ),
    "many-keys": Scenario("each user has its own API key, of --keys-file", many_keys=True),
    "disconnects": Scenario("three of ten clients hang up in the middle of an answer", hang_ups=True),
}
