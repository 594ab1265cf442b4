"""How much one API key may ask: requests in flight, and tokens in a minute.

Tokens are charged when they are used, not estimated beforehand: a key may ask as long as it has any left. What its
requests in flight use beyond that is a debt, which has to run off before the next request is let in.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.admission import asks_for_work
from server.authentication import KEY
from server.exchange import ANONYMOUS, current_exchange
from server.keys import ApiKey
from server.outlet import Outlet
from server.refusal import refusal

CONCURRENCY_RETRY_SECONDS: Final = 1.0


class TokenBucket:
    """Tokens that may be used: at most a minute's worth at once, refilled evenly.

    Args:
        per_minute: tokens in a minute.
        clock: seconds, for tests.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._at = clock()

    def resize(self, per_minute: int) -> None:
        """Change the limit; a debt stays."""
        self._refill()
        self.per_minute = per_minute
        self._level = min(self._level, per_minute)

    def spend(self, tokens: int) -> None:
        """Charge tokens that were used; the level may fall below zero."""
        self._refill()
        self._level -= tokens

    @property
    def left(self) -> int:
        """Tokens that are left, never less than zero."""
        self._refill()
        return max(0, int(self._level))

    @property
    def seconds_until_open(self) -> float:
        """Seconds until a token is left; zero if one is."""
        self._refill()
        return max(0.0, (1 - self._level) * 60 / self.per_minute)

    @property
    def seconds_until_full(self) -> float:
        """Seconds until the whole limit is there again."""
        self._refill()
        return (self.per_minute - self._level) * 60 / self.per_minute

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self.per_minute, self._level + (now - self._at) * self.per_minute / 60)
        self._at = now


@dataclass(slots=True)
class _Account:
    running: int = 0
    bucket: TokenBucket | None = None


class KeyLimits:
    """Middleware that holds every key to its limits; without keys, all clients share one account.

    Only requests for work count. Their answers carry OpenAI's ``x-ratelimit-*`` headers; as ``requests`` they count
    those in flight.

    Args:
        app: what is protected.
        max_concurrent: requests that a key may have in flight, unless it has its own limit; None for any number.
        tokens_per_minute: likewise its tokens.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_concurrent: int | None,
        tokens_per_minute: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._max_concurrent = max_concurrent
        self._tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse with 429 what is beyond a limit."""
        if not asks_for_work(scope):
            await self._app(scope, receive, send)
            return
        key: ApiKey | None = scope.get(KEY)
        most = (key and key.max_concurrent) or self._max_concurrent
        account = self._account(key)
        bucket = account.bucket

        def headers() -> dict[str, str]:
            return _concurrency_headers(account, most) | _token_headers(bucket)

        if most is not None and account.running >= most:
            message = f"Rate limit reached: {most} requests in flight. Wait for one of them to end."
            await refusal(429, message, retry_after=CONCURRENCY_RETRY_SECONDS, headers=headers())(scope, receive, send)
            return
        if bucket is not None and bucket.seconds_until_open > 0:
            message = f"Rate limit reached: {bucket.per_minute} tokens per minute. Ask again later or ask for less."
            await refusal(429, message, retry_after=bucket.seconds_until_open, headers=headers())(scope, receive, send)
            return

        def add_limits(head: Message) -> None:
            MutableHeaders(scope=head).update(headers())

        exchange = current_exchange()
        if exchange is not None:
            exchange.budget = bucket
        limited = most is not None or bucket is not None
        account.running += 1
        try:
            await self._app(scope, receive, Outlet.at(send).watch(add_limits) if limited else send)
        finally:
            account.running -= 1

    def _account(self, key: ApiKey | None) -> _Account:
        account = self._accounts.setdefault(key.name if key else ANONYMOUS, _Account())
        per_minute = (key and key.tokens_per_minute) or self._tokens_per_minute
        if per_minute is None:
            account.bucket = None
        elif account.bucket is None:
            account.bucket = TokenBucket(per_minute, self._clock)
        elif account.bucket.per_minute != per_minute:
            account.bucket.resize(per_minute)
        return account


def _concurrency_headers(account: _Account, most: int | None) -> dict[str, str]:
    if most is None:
        return {}
    return {
        "x-ratelimit-limit-requests": str(most),
        "x-ratelimit-remaining-requests": str(most - account.running),
        "x-ratelimit-reset-requests": f"{CONCURRENCY_RETRY_SECONDS if account.running else 0:g}s",
    }


def _token_headers(bucket: TokenBucket | None) -> dict[str, str]:
    if bucket is None:
        return {}
    return {
        "x-ratelimit-limit-tokens": str(bucket.per_minute),
        "x-ratelimit-remaining-tokens": str(bucket.left),
        "x-ratelimit-reset-tokens": f"{bucket.seconds_until_full:.3f}s",
    }
