"""Token counts of an exchange for engine requests that are not metered."""

from collections.abc import AsyncGenerator
from typing import Any

from server.exchange import Exchange


async def accounted(outputs: AsyncGenerator[Any, None], exchange: Exchange) -> AsyncGenerator[Any, None]:
    """Pass an engine's outputs on, the tokens of each counted first; what was their prompt is not counted."""
    try:
        async for output in outputs:
            exchange.sampled(sum(len(part.token_ids) for part in output.outputs))
            yield output
    finally:
        await outputs.aclose()
