"""Errors as the OpenAI API words them: ``{"error": {"message", "type", "param", "code"}}``.

On Anthropic's routes they are worded as in its API: ``{"type": "error", "error": {"type", "message"}}``.

vLLM's errors have the same envelope but their own ``type`` names, numbers as ``code`` and internal names in ``param``;
its authentication and unknown routes have no envelope at all. A middleware brings them all into one form, and leaves
status and message as they are.
"""

import json
import re
from contextlib import suppress
from traceback import walk_tb
from typing import Any

from fastapi import HTTPException
from fastapi.dependencies.utils import request_body_to_args
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.outlet import Outlet
from server.route import route_path

CONTEXT_LENGTH = re.compile(r"maximum context length")
JSON_POSITION = re.compile(r"body\.\d+|body")
CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
TYPES = {403: "permission_error", 429: "rate_limit_error"}

ANTHROPIC_ROUTES = "/v1/messages"
ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def openai_error(status: int, body: Any, path: str) -> dict[str, Any]:
    """Word an error as the OpenAI API does.

    Args:
        status: HTTP status code.
        body: decoded body of the error response.
        path: path of the request; tells which parameter holds the prompt.
    """
    details, message = _details(body)
    param = details.get("param")
    code = CODES.get(status)
    if status == 404 and param == "model":
        code = "model_not_found"
    elif status == 400 and CONTEXT_LENGTH.search(message):
        code, param = "context_length_exceeded", "messages" if "chat" in path else "prompt"
    elif isinstance(param, str):
        param = None if JSON_POSITION.fullmatch(param) else param.removeprefix("body.")
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def anthropic_error(status: int, body: Any) -> dict[str, Any]:
    """Word an error as the Anthropic API does."""
    kind = ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": _details(body)[1]}}


def last_events(status: int, message: str, path: str) -> bytes:
    """What ends an event stream that cannot go on, as the API of that path words it."""
    error = json.dumps(_worded(status, {"message": message}, path), ensure_ascii=False)
    text = f"event: error\ndata: {error}\n\n" if _anthropic(path) else f"data: {error}\n\ndata: [DONE]\n\n"
    return text.encode()


def _anthropic(path: str) -> bool:
    return path.startswith(ANTHROPIC_ROUTES)


def _worded(status: int, body: Any, path: str) -> dict[str, Any]:
    return anthropic_error(status, body) if _anthropic(path) else openai_error(status, body, path)


def _details(body: Any) -> tuple[dict[str, Any], str]:
    """What an error response says of the error, and its message."""
    error = body.get("error", body.get("detail", body)) if isinstance(body, dict) else body
    details = error if isinstance(error, dict) else {"message": error}
    return details, str(details.get("message") or error)


class OpenAIErrors:
    """Middleware that rewrites the JSON bodies of error responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through but error responses, which are held until the app has returned."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []

        async def hold(message: Message) -> None:
            held.append(message)

        outlet = Outlet.at(send).watch(lambda head: hold if _is_json_error(head) else None)
        try:
            await self._app(scope, receive, outlet)
        finally:
            if len(held) > 1 and not held[-1].get("more_body"):
                outlet.release()
                for message in _rewritten(held, route_path(scope)):
                    await outlet(message)


class UnreadableBodies:
    """Middleware that refuses, with 400, bodies that make a validator of vLLM's stumble.

    Its validators take some fields apart before their types are checked, and raise what is no validation error.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through.

        Raises:
            HTTPException: the body cannot be read.
        """
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if not _while_the_body_was_read(error):
                raise
            found = f"A field of the request has a value of the wrong type ({type(error).__name__}: {error})."
            raise HTTPException(400, found) from error


def _while_the_body_was_read(error: Exception) -> bool:
    return any(frame.f_code is request_body_to_args.__code__ for frame, _ in walk_tb(error.__traceback__))


def _is_json_error(start: Message) -> bool:
    return bool(start["status"] >= 400) and Headers(raw=start["headers"]).get("content-type") == "application/json"


def _rewritten(messages: list[Message], path: str) -> list[Message]:
    head, *parts = messages
    body = b"".join(part.get("body", b"") for part in parts)
    with suppress(ValueError):
        body = json.dumps(_worded(head["status"], json.loads(body), path), ensure_ascii=False).encode()
    MutableHeaders(raw=head["headers"])["content-length"] = str(len(body))
    return [head, {"type": "http.response.body", "body": body}]
