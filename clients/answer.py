"""An answer, and the events that it streams as."""

from dataclasses import dataclass, field

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from clients.report import EfficiencyReport, efficiency_report

THINKING_FIELDS = ("reasoning", "reasoning_content")
"""Where servers put thinking in a message or a delta: vLLM's name, and the older one."""


@dataclass(frozen=True, slots=True)
class ThinkingText:
    """The next piece of the thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class AnswerText:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer.

    Attributes:
        thinking: text of the thinking block, without its tags.
        text: what follows it.
        finish_reason: ``stop``, ``length``, ...
        completion_tokens: tokens of thinking and answer.
        report: steps, exit and savings; None from a server that does not report them.
    """

    thinking: str
    text: str
    finish_reason: str | None
    completion_tokens: int
    report: EfficiencyReport | None


Event = ThinkingText | AnswerText | Answer
"""A stream's events: pieces of thinking and answer in order, and last the whole answer."""


class IncompleteAnswerError(Exception):
    """A stream ended before its answer did."""

    def __init__(self) -> None:
        super().__init__("the stream ended before the answer did: ask again, and see the server's log")


@dataclass(slots=True)
class AnswerBuilder:
    """Puts the chunks of a stream together again."""

    _thinking: list[str] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _finish_reason: str | None = None
    _completion_tokens: int = 0
    _report: EfficiencyReport | None = None

    def feed(self, chunk: ChatCompletionChunk) -> list[ThinkingText | AnswerText]:
        """Take in a chunk; returns what it adds."""
        events: list[ThinkingText | AnswerText] = []
        if chunk.usage is not None:
            self._completion_tokens = chunk.usage.completion_tokens
        for choice in chunk.choices:
            if thinking := thinking_of(choice.delta):
                self._thinking.append(thinking)
                events.append(ThinkingText(thinking))
            if choice.delta.content:
                self._text.append(choice.delta.content)
                events.append(AnswerText(choice.delta.content))
            self._finish_reason = choice.finish_reason or self._finish_reason
            self._report = efficiency_report(choice) or self._report
        return events

    def finish(self) -> Answer:
        """The whole answer.

        Raises:
            IncompleteAnswerError: no chunk said that the answer is finished.
        """
        if self._finish_reason is None:
            raise IncompleteAnswerError
        return Answer(
            thinking="".join(self._thinking),
            text="".join(self._text),
            finish_reason=self._finish_reason,
            completion_tokens=self._completion_tokens,
            report=self._report,
        )


def answer_of(completion: ChatCompletion) -> Answer:
    """The answer of a whole response, its first choice."""
    choice = completion.choices[0]
    return Answer(
        thinking=thinking_of(choice.message),
        text=choice.message.content or "",
        finish_reason=choice.finish_reason,
        completion_tokens=completion.usage.completion_tokens if completion.usage else 0,
        report=efficiency_report(choice),
    )


def thinking_of(message: BaseModel) -> str:
    """The thinking that a message or a delta carries beside its content."""
    extra = message.model_extra or {}
    return next((str(extra[name]) for name in THINKING_FIELDS if extra.get(name)), "")
