"""Server-sent events of one JSON object, as vLLM's handlers write them."""

from typing import Any

import msgspec

PREFIX = "data: "


def body_of(event: str) -> Any:
    """What an event carries."""
    return msgspec.json.decode(event.removeprefix(PREFIX))


def event_of(body: dict[str, Any]) -> str:
    """The event that carries a body."""
    return f"{PREFIX}{msgspec.json.encode(body).decode()}\n\n"
