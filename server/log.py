"""The server's log: lines for people, or one JSON object a line for machines."""

import json
import logging
import logging.config
import os
from pathlib import Path
from typing import Final, Literal

LogFormat = Literal["text", "json"]

JSON_CONFIG: Final = Path(__file__).with_name("logging.json")
VARIABLE: Final = "VLLM_LOGGING_CONFIG_PATH"
"""By this variable vLLM, its engine's processes and uvicorn find their logging configuration."""

logger = logging.getLogger(__name__)


def configure_log(log_format: LogFormat) -> None:
    """Set up this process's log, and by the environment that of vLLM, uvicorn and the engine. Before vLLM is imported.

    A configuration that the variable already names is kept.
    """
    if log_format == "json":
        os.environ.setdefault(VARIABLE, str(JSON_CONFIG))
        logging.config.dictConfig(json.loads(Path(os.environ[VARIABLE]).read_bytes()))


def announce(message: str, log_format: LogFormat) -> None:
    """Tell whoever started the server."""
    if log_format == "json":
        logger.info(message)
    else:
        print(message, flush=True)
