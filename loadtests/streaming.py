"""One streamed answer: what it held, and when its parts came."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

FIELD = "reasoning_efficiency"
THINKING_FIELDS = ("reasoning", "reasoning_content")


class BrokenStreamError(Exception):
    """A stream ended before its answer did, or holds what is no chunk of an answer."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """A finished answer. Times are in milliseconds.

    Attributes:
        tokens: completion tokens, as the server counts them.
        steps: reasoning steps; None from servers that do not report them.
        first_token: from the request to the first text.
        between_tokens: mean time from one token to the next; None for a single one.
        whole: from the request to the end.
    """

    tokens: int
    steps: int | None
    first_token: float
    between_tokens: float | None
    whole: float


def read_stream(lines: Iterable[bytes], started: float, clock: Callable[[], float]) -> Streamed:
    """Read the server-sent events of a chat completion that includes its usage.

    Args:
        lines: of the response's body, as they come.
        started: when the request was sent, in seconds of ``clock``.
        clock: monotonic seconds.

    Raises:
        BrokenStreamError: the answer is not complete.
    """
    first = last = None
    tokens: int | None = None
    steps: int | None = None
    finished = False
    for line in lines:
        if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
            continue
        chunk = _decoded(line)
        if "error" in chunk:
            said = chunk["error"]
            raise BrokenStreamError(
                f"the server gave up: {said.get('message', said) if isinstance(said, dict) else said}"
            )
        try:
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
            for choice in chunk["choices"]:
                if _has_text(choice["delta"]):
                    last = clock()
                    first = first or last
                if choice.get("finish_reason"):
                    finished = True
                    steps = (choice.get(FIELD) or {}).get("steps", steps)
        except (AttributeError, LookupError, TypeError) as error:
            raise BrokenStreamError(_no_chunk(line)) from error
    ended = clock()
    if not finished or tokens is None:
        raise BrokenStreamError("the stream ended before its answer did")
    first, last = first or ended, last or ended
    return Streamed(
        tokens=tokens,
        steps=steps,
        first_token=1000 * (first - started),
        between_tokens=1000 * (last - first) / (tokens - 1) if tokens > 1 else None,
        whole=1000 * (ended - started),
    )


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        chunk = json.loads(line.removeprefix(b"data: "))
    except ValueError as error:
        raise BrokenStreamError(_no_chunk(line)) from error
    if not isinstance(chunk, dict):
        raise BrokenStreamError(_no_chunk(line))
    return chunk


def _no_chunk(line: bytes) -> str:
    return f"no chunk of an answer: {line[:80]!r}"


def _has_text(delta: dict[str, str]) -> bool:
    return bool(delta.get("content")) or any(delta.get(name) for name in THINKING_FIELDS)
