"""The engine as our app sees it: vLLM's own, with every request metered on its way through."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from typing import Any, Final

from server.accounting import accounted
from server.admission import DRAINING
from server.exchange import current_exchange
from server.metering import Meter, RequestMeter
from server.report import current_reports

logger = logging.getLogger(__name__)

HANDOVER_SECONDS: Final = 0.2
"""How long a request that was let in may take to its answer's first step in the engine."""

POLL_SECONDS: Final = 0.02

TOGETHER: Final = 32
"""Outputs of a stream that are metered together, which costs it less than one by one."""


class ShuttingDownError(Exception):
    """The server takes on no new answers."""


class MeteredEngine:
    """Delegates everything to an engine client, meters ``generate`` and takes note of adapters.

    The engine itself is untouched: what a request gets is what it would have got without us.
    """

    def __init__(self, engine: Any, meter: Meter) -> None:
        self._engine = engine
        self.meter = meter
        self.draining = False
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def shutdown(self, timeout: float | None = None) -> None:
        """Shut the engine down; from here on ``draining`` is true.

        From its shutdown on, the engine itself refuses whatever comes, also what goes on with an answer: the next piece
        of a steered one, the next step of a beam search. So it hears of it only when the answers underway have ended,
        or the time for that has. Blocks, so it is for a thread.

        Args:
            timeout: seconds that answers may go on; None and 0 wait for none.
        """
        deadline = time.monotonic() + (timeout or 0.0)

        def pause(seconds: float) -> None:
            time.sleep(max(min(seconds, deadline - time.monotonic()), 0.0))

        self.draining = True
        pause(HANDOVER_SECONDS)
        self._closed = True
        pause(HANDOVER_SECONDS)
        while (self.meter.underway or self._engine.get_num_unfinished_requests()) and time.monotonic() < deadline:
            pause(POLL_SECONDS)
        self._engine.shutdown(timeout=None if timeout is None else max(deadline - time.monotonic(), 0.0))

    async def add_lora(self, lora_request: Any) -> Any:
        """Load an adapter; from here on its series are there."""
        loaded = await self._engine.add_lora(lora_request)
        self.meter.load(lora_request)
        return loaded

    def generate(self, prompt: Any, sampling_params: Any, *args: Any, **options: Any) -> AsyncGenerator[Any, None]:
        """Pass the engine's outputs on, each metered first.

        Requests that are no answers, but single steps of a beam search or labels' probabilities, are only charged.

        Raises:
            ShuttingDownError: it is too late for a new answer.
        """
        answers = _is_answer(sampling_params)
        if answers and self._closed:
            raise ShuttingDownError(DRAINING)
        outputs = self._engine.generate(prompt, sampling_params, *args, **options)
        if not answers:
            exchange = current_exchange()
            return outputs if exchange is None else accounted(outputs, exchange)
        return metered(outputs, self.meter.open(sampling_params, options.get("lora_request"), prompt=_length(prompt)))


def _is_answer(sampling: Any) -> bool:
    """Whether somebody reads the tokens: a step of a beam search asks for no text, and who reads off the probabilities
    of labels, outside of a response with choices, for a single token.
    """
    reads_labels = sampling.logprob_token_ids is not None and sampling.max_tokens == 1 and current_reports() is None
    return bool(sampling.detokenize) and not reads_labels


def _length(prompt: Any) -> int:
    return len(prompt.get("prompt_token_ids") or ()) if isinstance(prompt, dict) else 0


async def metered(outputs: AsyncGenerator[Any, None], meter: RequestMeter) -> AsyncGenerator[Any, None]:
    """Meter a request however it ends: finished, refused (counted nowhere), failed underway, or left by its client.

    Outputs that end no choice wait for others. Those that still wait when the request is cut off are only charged, for
    their choice has no end that could be reported.
    """
    metering, left = True, False
    left_or_failed: tuple[type[BaseException], ...] = (asyncio.CancelledError, GeneratorExit, *meter.failures)
    waiting: list[Any] = []
    room = 1  # the first output is metered at once: it tells what the prompt took

    async def feed() -> None:
        nonlocal metering, waiting
        fed, waiting = waiting, []
        try:
            await meter.feed(fed)
        except Exception:  # must not cost the client the answer
            logger.exception("a request cannot be metered")
            metering = False

    meter.begin()
    try:
        async for output in outputs:
            if metering:
                waiting.append(output)
                if len(waiting) == room or len(output.outputs) != 1 or output.outputs[0].finish_reason is not None:
                    await feed()
                    room = TOGETHER
            yield output
    except left_or_failed:
        left = True
        raise
    finally:
        meter.charge(waiting)
        if left or meter.started:
            meter.close()
        meter.end()
        await outputs.aclose()
