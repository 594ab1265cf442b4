"""The second door: metering, reports and exit control in a stock ``vllm serve``, as one of its endpoint plug-ins.

``VLLM_PLUGINS=stepgrpo vllm serve CHECKPOINT`` loads it. Settings come from ``STEPGRPO_*`` environment variables.
"""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from server.assembly import metered_engine, report_in_responses
from server.checkpoint import ServedCheckpoint, load_checkpoint
from server.exit_control import ExitLimits
from server.routes import efficiency_routes
from server.settings import FILE_VARIABLE, load_settings
from server.vllm_compat import hand_over, loaded_adapters


class StepGrpoPlugin:
    """What vLLM calls an endpoint plug-in; does nothing in ``stepgrpo serve``, which has it all."""

    name = "stepgrpo"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Keep the app; its routes need the engine, which is known later."""
        self._app = app

    async def init_state(self, engine_client: Any, state: Any, args: Namespace) -> None:
        """Put our engine under vLLM's handlers, and our reports around them.

        Raises:
            CheckpointError: the model is a folder whose ``step_grpo.json`` is broken.
            InvalidSettingsError: a setting of the environment does not fit.
            ServerError: the settings need what the engine was not started with.
        """
        if hasattr(engine_client, "meter"):
            return
        file = os.environ.get(FILE_VARIABLE)
        settings = load_settings({}, Path(file) if file else None)
        name = (args.served_model_name or [args.model])[0]
        ours = metered_engine(engine_client, name, _checkpoint(args.model), ExitLimits.of(settings))
        hand_over(state, engine_client, ours)
        report_in_responses(state, ours, settings)
        for adapter in loaded_adapters(state):
            ours.meter.load(adapter)
        self._app.include_router(efficiency_routes(ours.meter, ours))


def _checkpoint(model: str) -> ServedCheckpoint:
    """The checkpoint in a folder; a model that vLLM downloads by its name brings no card."""
    folder = Path(model)
    return load_checkpoint(folder) if folder.is_dir() else ServedCheckpoint(folder, None)
