"""For comparison only: the same truncated rollouts in rounds, each of which waits for its slowest sample.

This is how the method's first code works: all live samples are submitted, all awaited, phase by phase. A run of it is
a run of :func:`training.rollout.truncated_rollouts` on an engine that holds its replies back.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch

from training.sampler import Completion, Request, Sampler


class LockStep:
    """An engine whose requests wait for the round under way, and whose replies come when all of the round are there.

    Thoughts, trial answers and final answers are rounds of their own.
    """

    def __init__(self, engine: Sampler) -> None:
        self._engine = engine
        self._waiting: list[tuple[str, Request]] = []
        self._count = 0

    @property
    def busy(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._waiting)

    def submit(self, request: Request) -> str:
        """Put a request into the next round of its phase."""
        self._count += 1
        self._waiting.append((str(self._count), request))
        return str(self._count)

    def step(self) -> Iterable[tuple[str, Completion]]:
        """One whole round: the phase of the request that waits longest."""
        phase = _phase(self._waiting[0][1])
        members = [one for one in self._waiting if _phase(one[1]) == phase]
        self._waiting = [one for one in self._waiting if _phase(one[1]) != phase]
        names = {self._engine.submit(request): name for name, request in members}
        replies = []
        while self._engine.busy:
            replies += [(names[request_id], completion) for request_id, completion in self._engine.step()]
        return replies

    def token_logprobs(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """As the engine."""
        return self._engine.token_logprobs(sequences)

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """As the engine."""
        self._engine.load_weights(weights)

    def close(self) -> None:
        """As the engine."""
        self._engine.close()


def _phase(request: Request) -> str:
    return "trial" if request.with_logprobs else "think" if request.stop else "answer"
