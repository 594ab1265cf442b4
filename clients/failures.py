"""What a failed request means for the person at the terminal, and what to do."""

import openai

from clients.answer import IncompleteAnswerError
from clients.client import KEY_VARIABLE

Failure = (openai.OpenAIError, IncompleteAnswerError)
"""What a client raises when an answer cannot be had."""


def advice(error: Exception, url: str) -> str:
    """One line for an error of :data:`Failure`: what went wrong at ``url``, and the way out."""
    match error:
        case openai.APITimeoutError():
            return f"{url} did not answer in time: see its log, or raise --timeout"
        case openai.APIConnectionError():
            return f"no server answers at {url}: start one with `stepgrpo serve`, or name the address of another"
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return f"{url} refuses the API key: set {KEY_VARIABLE} to one that the server knows"
        case openai.RateLimitError():
            return f"{url} is busy, also after retries: try again later, or raise the server's limits"
        case openai.InternalServerError():
            return f"{url} failed ({error.status_code}): {_message(error)}; ask again, and see its log"
        case openai.APIStatusError():
            return f"{url} refuses the request ({error.status_code}): {_message(error)}"
        case _:
            return f"{url}: {error}"


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    return str(body["message"]) if isinstance(body, dict) and "message" in body else error.message
