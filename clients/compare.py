"""Ask two servers the same questions."""

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from clients.answer import Answer
from clients.client import AsyncClient, Options
from clients.comparison import Comparison, Failed, Measured, Pair, judge
from clients.failures import Failure, advice


class Asked(BaseModel):
    """A question, and its right answer where it is known."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    question: str
    answer: str | None = None


class InvalidQuestionsError(Exception):
    """A file does not hold questions; the message says where and how it should."""


class Respondent:
    """One of the two servers, asked by at most ``concurrency`` requests at once."""

    def __init__(self, client: AsyncClient, concurrency: int) -> None:
        self.client = client
        self._slots = asyncio.Semaphore(concurrency)

    async def ask(self, question: str, options: Options) -> Answer | str:
        """The answer, or in one line why there is none that could be compared."""
        url = str(self.client.openai.base_url)
        async with self._slots:
            try:
                answer = await self.client.ask(question, **options)
            except Failure as error:
                return advice(error, url)
        return answer if answer.completion_tokens else f"{url} counts no tokens: its answers have no `usage`"


def read_questions(path: Path) -> list[Asked]:
    """Read a file of questions: lines of plain text, or JSON lines with ``question`` and perhaps ``answer``.

    Raises:
        InvalidQuestionsError: the file cannot be read, holds no question or a line that is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidQuestionsError(f"{path} cannot be read: {error}") from error
    asked = [_question(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not asked:
        raise InvalidQuestionsError(f"{path} holds no question: write one a line")
    return asked


def _question(line: str, where: str) -> Asked:
    if not line.lstrip().startswith("{"):
        return Asked(question=line.strip())
    try:
        return Asked.model_validate(json.loads(line))
    except (ValueError, ValidationError) as error:
        raise InvalidQuestionsError(
            f'{where} is not a JSON object like {{"question": "...", "answer": "19"}}'
        ) from error


async def ask_both(
    base: Respondent, tuned: Respondent, questions: Sequence[Asked], options: Options, on_answer: Callable[[], None]
) -> Comparison:
    """Ask both servers all questions.

    Args:
        base: server of the base model.
        tuned: server of the tuned one.
        questions: what to ask.
        options: sampling, the same for both.
        on_answer: called after each answer.
    """

    async def ask(respondent: Respondent, asked: Asked) -> Answer | str:
        try:
            return await respondent.ask(asked.question, options)
        finally:
            on_answer()

    answers = await asyncio.gather(*(ask(each, asked) for asked in questions for each in (base, tuned)))
    comparison = Comparison(await base.client.model(), await tuned.client.model())
    for asked, of_base, of_tuned in zip(questions, answers[::2], answers[1::2], strict=True):
        if isinstance(of_base, Answer) and isinstance(of_tuned, Answer):
            pair = Pair(asked.question, _measured(of_base, asked), _measured(of_tuned, asked))
            comparison.pairs.append(pair)
        else:
            error = of_base if isinstance(of_base, str) else str(of_tuned)
            comparison.failures.append(Failed(asked.question, error))
    return comparison


def _measured(answer: Answer, asked: Asked) -> Measured:
    report = answer.report
    return Measured(
        tokens=answer.completion_tokens,
        steps=report.steps if report else None,
        exit_reason=report.exit.reason if report else None,
        correct=None if asked.answer is None else judge(answer.text, asked.answer),
    )
