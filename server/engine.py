"""The engine as our app sees it: vLLM's own, with every request metered on its way through."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

from server.accounting import accounted
from server.exchange import current_exchange
from server.metering import Meter, RequestMeter

logger = logging.getLogger(__name__)


class MeteredEngine:
    """Delegates everything to an engine client, meters ``generate`` and takes note of adapters.

    The engine itself is untouched: what a request gets is what it would have got without us.
    """

    def __init__(self, engine: Any, meter: Meter) -> None:
        self._engine = engine
        self.meter = meter
        self.draining = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def shutdown(self, *args: Any, **options: Any) -> None:
        """Shut the engine down; from here on ``draining`` is true."""
        self.draining = True
        self._engine.shutdown(*args, **options)

    async def add_lora(self, lora_request: Any) -> Any:
        """Load an adapter; from here on its series are there."""
        loaded = await self._engine.add_lora(lora_request)
        self.meter.load(lora_request)
        return loaded

    def generate(self, prompt: Any, sampling_params: Any, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        """Pass the engine's outputs on, each metered first.

        Requests that ask for no text are only charged: they are the single steps of a beam search, not answers.
        """
        outputs = self._engine.generate(prompt, sampling_params, *args, **options)
        if not sampling_params.detokenize:
            exchange = current_exchange()
            return outputs if exchange is None else accounted(outputs, exchange)
        return metered(outputs, self.meter.open(sampling_params, options.get("lora_request")))


async def metered(outputs: AsyncGenerator[Any, None], meter: RequestMeter) -> AsyncGenerator[Any, None]:
    """Meter a request however it ends: finished, refused (counted nowhere), failed underway, or left by its client."""
    metering = True
    try:
        async for output in outputs:
            if metering:
                try:
                    if (rest := meter.feed(output)) is not None:
                        await rest
                except Exception:  # must not cost the client the answer
                    logger.exception("a request cannot be metered")
                    metering = False
            yield output
    except (asyncio.CancelledError, GeneratorExit):
        meter.close()
        raise
    finally:
        await outputs.aclose()
        if meter.started:
            meter.close()
