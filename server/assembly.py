"""From vLLM's parts to ours: the engine that is metered and steered, and the handlers that report."""

from functools import partial
from typing import Any

from server import vllm_compat as vllm
from server.adapters import with_unloading
from server.beams import with_metered_beams
from server.checkpoint import ServedCheckpoint
from server.engine import MeteredEngine
from server.exit_control import ExitLimits
from server.metering import Meter
from server.metrics import EfficiencyMetrics
from server.models import model_of
from server.reasoning_content import with_reasoning_content
from server.responses import Handler, with_reports, with_response_report
from server.settings import ServerSettings
from server.steered import SteeredEngine


def metered_engine(engine: Any, name: str, checkpoint: ServedCheckpoint, limits: ExitLimits) -> MeteredEngine:
    """Put exit control and metering around an engine.

    Args:
        engine: vLLM's client of it.
        name: the model's, as served.
        checkpoint: what the engine serves.
        limits: of exit control.

    Raises:
        ServerError: the limits need what the engine was not started with.
    """
    if limits.budgets_tokens and engine.vllm_config.reasoning_config is None:
        raise vllm.ServerError("a thinking token budget needs --reasoning-parser, or --reasoning-config with the tags")
    text = vllm.VllmText(engine.get_tokenizer(), checkpoint.think)
    meter = Meter(model_of(name, checkpoint), text, EfficiencyMetrics(), vllm.engine_failures())
    steered = SteeredEngine(engine, vllm.VllmPieces(engine, text), meter.model, limits, vllm.invalid_request)
    return MeteredEngine(steered, meter)


def report_in_responses(state: Any, engine: MeteredEngine, settings: ServerSettings) -> None:
    """Let vLLM's handlers, which the app's state holds, take our fields and answer with reports."""

    def answering(handler: Handler, lazy: bool) -> Handler:
        reporting = with_reports(handler, vllm.invalid_request, engine.check_request, lazy)
        return with_reasoning_content(reporting) if settings.reasoning_content else reporting

    vllm.wrap_handlers(
        state,
        answering=answering,
        finishing=with_response_report,
        beams=partial(with_metered_beams, meter=engine.meter, check=engine.check_beam_search),
        unloading=partial(with_unloading, meter=engine.meter),
    )
