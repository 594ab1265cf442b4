"""``reasoning_content`` beside ``reasoning``, for clients that only know the field's older name."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import wraps
from typing import Any, Final

from server.events import body_of, event_of
from server.responses import Handler

FIELD: Final = "reasoning_content"


def with_reasoning_content(handler: Handler) -> Handler:
    """Wrap a handler so that every message and every delta of a stream has its thinking under both names."""

    @wraps(handler)
    async def naming(*args: Any, **options: Any) -> Any:
        response = await handler(*args, **options)
        if hasattr(response, "__aiter__"):
            return _named(response)
        for choice in getattr(response, "choices", ()):
            message = getattr(choice, "message", None)
            thinking = getattr(message, "reasoning", None)
            if thinking is not None:
                setattr(message, FIELD, thinking)
        return response

    return naming


async def _named(stream: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    async with aclosing(stream):
        async for event in stream:
            yield _renamed(event) if isinstance(event, str) and '"reasoning":' in event else event


def _renamed(event: str) -> str:
    chunk = body_of(event)
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta", {})
        if delta.get("reasoning") is not None:
            delta[FIELD] = delta["reasoning"]
    return event_of(chunk)
