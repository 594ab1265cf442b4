"""What is known of one HTTP request while it is answered: who asks, under which id, and what it took."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from server.context import Within
from server.report import EfficiencyReport

ANONYMOUS = "anonymous"
"""Who asks where no keys are asked for."""


class Budget(Protocol):
    """Something that tokens are charged to."""

    def spend(self, tokens: int) -> None:
        """Charge tokens that were used."""


@dataclass(slots=True)
class Exchange:
    """One HTTP request and its answer.

    Attributes:
        request_id: the client's ``X-Request-Id``, or one made here; it is also the end of the response's ``id``.
        client: name of the API key.
        budget: what the tokens are charged to, while they are sampled.
        model: the served model that answers.
        prompt_tokens: of all engine requests.
        completion_tokens: sampled so far, those of choices that do not finish included.
        reports: of the finished choices.
        aborted: choices that did not come to their end.
    """

    request_id: str
    client: str = ANONYMOUS
    budget: Budget | None = None
    model: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reports: list[EfficiencyReport] = field(default_factory=list)
    aborted: int = 0

    def prompted(self, tokens: int) -> None:
        """Count the tokens of a prompt."""
        self.prompt_tokens += tokens
        self._charge(tokens)

    def sampled(self, tokens: int) -> None:
        """Count sampled tokens."""
        self.completion_tokens += tokens
        self._charge(tokens)

    def _charge(self, tokens: int) -> None:
        if self.budget is not None:
            self.budget.spend(tokens)


_current: ContextVar[Exchange | None] = ContextVar("stepgrpo_exchange", default=None)


def exchanging(exchange: Exchange) -> Within[Exchange]:
    """Make an exchange the current one of this context and of the tasks that are started in it."""
    return Within(_current, exchange)


def current_exchange() -> Exchange | None:
    """The exchange that this code works for; None outside of HTTP requests."""
    return _current.get()
