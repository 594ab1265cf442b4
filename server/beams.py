"""Beam search, metered: the engine sees only its single steps, so its answers count where they are put together."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from server.engine import metered
from server.metering import Meter

BeamSearch = Callable[..., AsyncGenerator[Any, None]]


@dataclass(frozen=True, slots=True)
class BeamSampling:
    """What metering reads of a request's sampling parameters."""

    n: int
    skip_special_tokens: bool
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    thinking_token_budget: int | None = None


def with_metered_beams(search: BeamSearch, meter: Meter, check: Callable[[], None]) -> BeamSearch:
    """Wrap a handler's beam search so that each of its answers is counted, and reported in the response.

    Args:
        search: vLLM's.
        meter: counts the answers.
        check: raises where there must be none.
    """

    @wraps(search)
    def searching(
        prompt: Any, request_id: str, params: Any, lora_request: Any = None, **options: Any
    ) -> AsyncGenerator[Any, None]:
        check()
        outputs = search(prompt, request_id, params, lora_request, **options)
        sampling = BeamSampling(params.beam_width, params.skip_special_tokens)
        return metered(outputs, meter.open(sampling, lora_request, charged=False))  # what its steps sampled was

    return searching
