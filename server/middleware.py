"""The order of the middlewares around vLLM's app."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from server.admission import Admission, Engine
from server.authentication import Authentication
from server.body_limit import BodyLimit
from server.deadline import Deadline
from server.errors import OpenAIErrors, UnreadableBodies
from server.keys import Keyring
from server.limits import KeyLimits
from server.request_id import RequestId
from server.request_log import RequestLog
from server.settings import ServerSettings
from server.shadow import Shadow, ShadowedRequests
from server.shortcut import Shortcut, can_be_passed
from server.tracing import Tracing


def add_middlewares(
    app: FastAPI,
    engine: Engine,
    settings: ServerSettings,
    keyring: Keyring | None,
    shadow: Shadow | None = None,
    traced: bool = False,
) -> None:
    """Put ours around the app: what guards it stands inside of vLLM's, which let browsers read and
    metrics count what is refused.

    vLLM has built its stack by now. A second build would start its request metrics anew, which then count nothing.

    Args:
        app: vLLM's.
        engine: asked before new work is taken on.
        settings: the limits.
        keyring: who may ask; None lets anyone.
        shadow: asks the base model again; None where there is none.
        traced: whether requests become spans.
    """
    inner: ASGIApp = UnreadableBodies(app.router.middleware_stack)
    if shadow is not None:
        inner = ShadowedRequests(inner, shadow)
    inner = Admission(inner, engine, settings.max_queue)
    if keyring is not None or settings.key_max_concurrent or settings.key_tokens_per_minute:
        inner = KeyLimits(inner, settings.key_max_concurrent, settings.key_tokens_per_minute)
    inner = BodyLimit(inner, settings.max_body_bytes)
    inner = Deadline(inner, settings.request_timeout)
    if keyring is not None:
        inner = Authentication(inner, keyring)
    app.middleware_stack = app.middleware_stack or app.build_middleware_stack()
    app.router.middleware_stack = Shortcut(inner) if can_be_passed(app) else inner
    outer: ASGIApp = OpenAIErrors(app.middleware_stack)
    if traced:
        outer = Tracing(outer)
    if settings.log_format == "json":
        outer = RequestLog(outer)
    app.middleware_stack = RequestId(outer)
