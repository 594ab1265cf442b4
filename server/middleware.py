"""The order of the middlewares around vLLM's app."""

from fastapi import FastAPI
from starlette.middleware import Middleware

from server.admission import Admission, Engine
from server.authentication import Authentication
from server.body_limit import BodyLimit
from server.deadline import Deadline
from server.keys import Keyring
from server.limits import KeyLimits
from server.request_id import RequestId
from server.settings import ServerSettings


def add_middlewares(app: FastAPI, engine: Engine, settings: ServerSettings, keyring: Keyring | None) -> None:
    """Put ours around the app: what guards it stands inside of vLLM's CORS, so that browsers may read a refusal.

    Args:
        app: vLLM's.
        engine: asked before new work is taken on.
        settings: the limits.
        keyring: who may ask; None lets anyone.
    """
    guards = [
        Middleware(Deadline, seconds=settings.request_timeout),
        Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        Middleware(
            KeyLimits,
            max_concurrent=settings.key_max_concurrent,
            tokens_per_minute=settings.key_tokens_per_minute,
        ),
        Middleware(Admission, engine=engine, max_queue=settings.max_queue),
    ]
    if keyring is not None:
        guards.insert(0, Middleware(Authentication, keyring=keyring))
    app.user_middleware[:] = [Middleware(RequestId), *app.user_middleware, *guards]
    app.middleware_stack = app.build_middleware_stack()  # vLLM has built one already, without these
