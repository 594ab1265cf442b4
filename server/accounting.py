"""Token counts of an exchange, taken where the engine hands its outputs to the response."""

from collections.abc import AsyncGenerator
from typing import Any

from server.exchange import Exchange, current_exchange


class AccountedEngine:
    """Delegates everything to an engine and counts the tokens of ``generate`` to the exchange they belong to.

    It stands outside of the metered engine and sees what the client is answered, aborted requests included.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        """Pass the engine's outputs on, each counted first."""
        outputs: AsyncGenerator[Any, None] = self._engine.generate(*args, **options)
        exchange = current_exchange()
        return outputs if exchange is None else _counted(outputs, exchange)


async def _counted(outputs: AsyncGenerator[Any, None], exchange: Exchange) -> AsyncGenerator[Any, None]:
    first = True
    try:
        async for output in outputs:
            if first:
                first = False
                exchange.prompted(len(output.prompt_token_ids or ()))
            exchange.sampled(sum(len(part.token_ids) for part in output.outputs))
            yield output
    finally:
        await outputs.aclose()
