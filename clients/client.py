"""The client, sync and async, on the official OpenAI SDK, which sends, parses, retries and backs off."""

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final, Required, Self, TypedDict, Unpack

from openai import APIConnectionError, APITimeoutError, AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam

from clients.answer import Answer, AnswerBuilder, Event, IncompleteAnswerError, answer_of
from clients.control import ExitControl

DEFAULT_URL: Final = "http://127.0.0.1:8000"
KEY_VARIABLE: Final = "STEPGRPO_API_KEY"
MAX_RETRIES: Final = 5
"""Retries after 429, 5xx and lost connections: the SDK waits as long as ``Retry-After`` says (more than two minutes are
not waited for), else twice as long each time, with jitter."""

Question = str | Iterable[ChatCompletionMessageParam]
"""A question, or the messages of a conversation."""


class Options(TypedDict, total=False):
    """How to answer; the model's own defaults where left out."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop: str | list[str]


class _Request(TypedDict, total=False):
    messages: Required[list[ChatCompletionMessageParam]]
    extra_body: dict[str, Any]


class Client:
    """Asks a server. As a context manager it closes its connections in the end.

    Args:
        url: where the server is, with or without ``/v1``.
        model: a served name; the server's first by default.
        api_key: else ``STEPGRPO_API_KEY`` of the environment; ``OPENAI_API_KEY`` is sent to nobody but OpenAI.
        max_retries: of a request that a busy or failing server refused.
        timeout: seconds until an answer must be there, or the next chunk of a stream.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        model: str | None = None,
        api_key: str | None = None,
        max_retries: int = MAX_RETRIES,
        timeout: float = 600,
    ) -> None:
        self.openai = OpenAI(
            base_url=api_url(url), api_key=api_key or key_of_environment(), max_retries=max_retries, timeout=timeout
        )
        self._model = model

    @cached_property
    def model(self) -> str:
        """The model that is asked."""
        return self._model or self.openai.models.list().data[0].id

    def ask(self, question: Question, control: ExitControl | None = None, **options: Unpack[Options]) -> Answer:
        """Ask, and wait for the whole answer.

        Raises:
            openai.OpenAIError: the server could not be reached or refused the request.
        """
        return answer_of(
            self.openai.chat.completions.create(model=self.model, **_request(question, control), **options)
        )

    def stream(
        self, question: Question, control: ExitControl | None = None, **options: Unpack[Options]
    ) -> Iterator[Event]:
        """Ask, and yield thinking and answer as they come, then the whole answer.

        Leaving the loop early ends the request.

        Raises:
            openai.OpenAIError: the server could not be reached or refused the request.
            IncompleteAnswerError: the stream broke off.
        """
        builder = AnswerBuilder()
        stream = self.openai.chat.completions.create(
            model=self.model,
            stream=True,
            stream_options={"include_usage": True},
            **_request(question, control),
            **options,
        )
        with stream as chunks, _begun():
            for chunk in chunks:
                yield from builder.feed(chunk)
        yield builder.finish()

    def close(self) -> None:
        """Close the connections."""
        self.openai.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """Asks a server from asynchronous code; as :class:`Client`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        model: str | None = None,
        api_key: str | None = None,
        max_retries: int = MAX_RETRIES,
        timeout: float = 600,
    ) -> None:
        self.openai = AsyncOpenAI(
            base_url=api_url(url), api_key=api_key or key_of_environment(), max_retries=max_retries, timeout=timeout
        )
        self._model = model

    async def model(self) -> str:
        """The model that is asked."""
        if self._model is None:
            self._model = (await self.openai.models.list()).data[0].id
        return self._model

    async def ask(self, question: Question, control: ExitControl | None = None, **options: Unpack[Options]) -> Answer:
        """As :meth:`Client.ask`."""
        return answer_of(
            await self.openai.chat.completions.create(
                model=await self.model(), **_request(question, control), **options
            )
        )

    async def stream(
        self, question: Question, control: ExitControl | None = None, **options: Unpack[Options]
    ) -> AsyncIterator[Event]:
        """As :meth:`Client.stream`."""
        builder = AnswerBuilder()
        stream = await self.openai.chat.completions.create(
            model=await self.model(),
            stream=True,
            stream_options={"include_usage": True},
            **_request(question, control),
            **options,
        )
        async with stream as chunks:
            with _begun():
                async for chunk in chunks:
                    for event in builder.feed(chunk):
                        yield event
        yield builder.finish()

    async def close(self) -> None:
        """Close the connections."""
        await self.openai.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def api_url(url: str) -> str:
    """Where a server's OpenAI API is; takes the server's address with or without ``/v1``."""
    return url.rstrip("/").removesuffix("/v1") + "/v1"


def key_of_environment() -> str:
    """The API key of the environment; servers that ask for none take any."""
    return os.environ.get(KEY_VARIABLE) or "none"


@contextmanager
def _begun() -> Iterator[None]:
    """A connection that is lost here leaves an incomplete answer: the server was there, for it has begun to answer."""
    try:
        yield
    except APITimeoutError:
        raise
    except APIConnectionError as error:
        raise IncompleteAnswerError from error


def _request(question: Question, control: ExitControl | None) -> _Request:
    messages: list[ChatCompletionMessageParam]
    messages = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
    return {"messages": messages, "extra_body": control.extra_body if control else {}}
