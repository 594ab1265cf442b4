"""Adapters that vLLM unloads while it runs: what was counted of them goes, too."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from server.metering import Meter

Unload = Callable[[Any], Awaitable[Any]]


def with_unloading(unload: Unload, meter: Meter) -> Unload:
    """Wrap vLLM's unloading of an adapter so that the meter forgets it; the answer is a text where it succeeds."""

    @wraps(unload)
    async def unloading(request: Any) -> Any:
        answer = await unload(request)
        if isinstance(answer, str):
            meter.unload(request.lora_name)
        return answer

    return unloading
