"""The engine as our app sees it: vLLM's own, with every request metered on its way through."""

from collections.abc import AsyncGenerator
from typing import Any

from server.metering import Meter


class MeteredEngine:
    """Delegates everything to an engine client and meters ``generate``.

    The engine itself is untouched: what a request gets is what it would have got without us.
    """

    def __init__(self, engine: Any, meter: Meter) -> None:
        self._engine = engine
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, *args: Any, **options: Any
    ) -> AsyncGenerator[Any, None]:
        """Pass the engine's outputs on, each counted first. However the request ends, its choices are recorded."""
        adapter = options.get("lora_request")
        meter = self._meter.open(request_id, sampling_params.n, adapter and adapter.lora_name)
        outputs = self._engine.generate(prompt, sampling_params, request_id, *args, **options)
        try:
            async for output in outputs:
                meter.feed(output)
                yield output
        finally:
            await outputs.aclose()
            meter.close()
