"""Refusals by middlewares: the status and a message, which ``server.errors`` brings into OpenAI's form."""

import math
from collections.abc import Mapping

from starlette.responses import JSONResponse


def refusal(
    status: int, message: str, *, retry_after: float | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error response; ``retry_after`` is rounded up to whole seconds, at least one."""
    extra = dict(headers or {})
    if retry_after is not None:
        extra["Retry-After"] = str(max(1, math.ceil(retry_after)))
    return JSONResponse({"error": {"message": message}}, status, extra)
