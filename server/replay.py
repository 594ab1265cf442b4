"""A request as the base model is asked it again: the same question and sampling, none of our own fields, no stream."""

import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

import httpx

REPLAYED: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Routes whose requests can be asked again."""
MARK: Final = "x-stepgrpo-shadow"
"""Header of requests that are asked again, which are never drawn themselves."""
OWN: Final = secrets.token_hex(16)
"""What it says where this very process asks, so that a replay is known that comes back to it."""
DROPPED: Final = frozenset(
    {
        "early_exit",
        "logprobs",
        "max_reasoning_steps",
        "priority",
        "prompt_logprobs",
        "reasoning_efficiency",
        "request_id",
        "stream",
        "stream_options",
        "thinking_token_budget",
        "top_logprobs",
    }
)
"""Fields that do not concern what is answered, or would cut the base model's thinking."""


def replay_of(body: bytes, answered: int) -> dict[str, Any] | None:
    """What the base model shall be asked, without its name.

    None where the two could not be compared: the choices were not all answered, or there are several prompts, tokens
    of the tuned model's own, a beam search, or fields of one model's own (an adapter's tokens, a logit bias).

    Args:
        body: of the request.
        answered: choices that came to their end.
    """
    request = json.loads(body)
    prompt = request.get("prompt", "")
    if (request.get("n") or 1) != answered or not isinstance(prompt, str):
        return None
    if request.get("use_beam_search") or request.get("logit_bias") or request.get("stop_token_ids"):
        return None
    return {name: value for name, value in request.items() if name not in DROPPED}


class BaseModel:
    """The base model behind a URL.

    Args:
        url: of an OpenAI-compatible server, with or without ``/v1``.
        model: its name there; None for the first that is served.
        api_key: for it.
        timeout: seconds that an answer may take.
    """

    def __init__(self, url: str, model: str | None, api_key: str | None, timeout: float) -> None:
        headers = {MARK: OWN} | ({"authorization": f"Bearer {api_key}"} if api_key else {})
        root = url.rstrip("/").removesuffix("/v1")
        self._http = httpx.AsyncClient(base_url=root, headers=headers, timeout=timeout)
        self._model = model
        self._found: str | None = None

    async def completion_tokens(self, path: str, request: Mapping[str, Any]) -> int:
        """Tokens of its answer to a request.

        Raises:
            httpx.HTTPError: it cannot be reached, or refused.
            KeyError, TypeError, ValueError: what it answered is not OpenAI's.
        """
        if self._model is None:
            self._found = self._found or str((await self._get("/v1/models"))["data"][0]["id"])
        answer = await self._http.post(path, json={**request, "model": self._model or self._found})
        if answer.status_code == httpx.codes.NOT_FOUND:
            self._found = None  # it may serve another by now
        return int(answer.raise_for_status().json()["usage"]["completion_tokens"])

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _get(self, path: str) -> Any:
        return (await self._http.get(path)).raise_for_status().json()
