"""Who answers: a checkpoint on the rollout engine, or any server that speaks the OpenAI API. Plain decoding only."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from training.chat import chat_tokens
from training.engines import open_engine
from training.errors import TrainingError
from training.recipe import Recipe
from training.sampler import Request, Sampling, finished

CONCURRENT = 64
KEY_VARIABLE = "STEPGRPO_API_KEY"
NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: text with its thinking block, completion tokens, and why it ended (``stop`` or ``length``)."""

    text: str
    tokens: int
    finish_reason: str


ReplyCallback = Callable[[int, Reply], None]
"""Called with each reply when it comes, and with the place that its question was asked for."""


def is_url(model: str) -> bool:
    """Whether a model is a server's address."""
    return model.startswith(("http://", "https://"))


def from_checkpoint(
    recipe: Recipe, model: str, sampling: Sampling, asked: Mapping[int, str], on_reply: ReplyCallback
) -> None:
    """An answer from a checkpoint (folder or hub name) to each of the questions in ``asked``, which may be repeated.

    Raises:
        TrainingError: no such checkpoint, or an engine that does not start on it.
    """
    tokenizer = load_tokenizer(model)
    prompts = {place: chat_tokens(tokenizer, question) for place, question in asked.items()}
    engine = open_engine(recipe, model, seed=recipe.seed)
    try:
        torch.manual_seed(recipe.seed)
        limit = recipe.rollout.max_completion_tokens
        places = {engine.submit(Request(prompt, limit, sampling)): place for place, prompt in prompts.items()}
        for request_id, one in finished(engine):
            reply = Reply(one.text, len(one.tokens), "length" if one.finish == "length" else "stop")
            on_reply(places[request_id], reply)
    finally:
        engine.close()


def check_prompts(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> None:
    """Refuse questions that are longer than the recipe's prompts may be.

    Raises:
        TrainingError: one is; it is named with the length that fits all.
    """
    size, question = max((len(chat_tokens(tokenizer, question)), question) for question in questions)
    if size > recipe.rollout.max_prompt_tokens:
        raise TrainingError(
            f"a question takes {size} tokens, more than the recipe lets prompts have:"
            f" --set rollout.max_prompt_tokens={size}: {question[:60]!r}..."
        )


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint.

    Raises:
        TrainingError: it is neither a folder nor a hub name, is an adapter alone, or has no tokenizer.
    """
    if (Path(model) / "adapter_config.json").exists() and not (Path(model) / "config.json").exists():
        raise TrainingError(
            f"{model} is a PEFT adapter without its model: merge the two (merge_and_unload), save the result with its"
            " tokenizer, and name that folder"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{model} is no checkpoint: {str(error).splitlines()[0]}") from error
    return tokenizer


def from_url(recipe: Recipe, url: str, sampling: Sampling, asked: Mapping[int, str], on_reply: ReplyCallback) -> None:
    """An answer from ``URL`` or ``URL#model`` (the first model that it lists by default) to each of the questions.

    A place is also what a request's seed is made of. The server is sent ``STEPGRPO_API_KEY`` of the environment;
    ``OPENAI_API_KEY`` is sent to nobody.

    Raises:
        TrainingError: the server cannot be reached, refuses, or does not count tokens.
    """
    from openai import OpenAIError

    key = os.environ.get(KEY_VARIABLE) or NO_KEY
    try:
        asyncio.run(_ask_all(recipe, url, sampling, asked, on_reply, key))
    except OpenAIError as error:
        said = str(error) if key == NO_KEY else str(error).replace(key, "***")
        # Without its cause, as a server may repeat the key in what it says.
        raise TrainingError(f"{url}: {said}; is it the base URL of an OpenAI-compatible server (…/v1)?") from None


async def _ask_all(
    recipe: Recipe, url: str, sampling: Sampling, asked: Mapping[int, str], on_reply: ReplyCallback, api_key: str
) -> None:
    from openai import AsyncOpenAI

    address, _, name = url.partition("#")
    slots = asyncio.Semaphore(CONCURRENT)
    start, end = recipe.model.think
    async with AsyncOpenAI(base_url=address, api_key=api_key, timeout=3600) as client:
        model = name or (await client.models.list()).data[0].id

        async def ask(place: int, question: str) -> None:
            async with slots:
                response = await client.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": question}],
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=recipe.rollout.max_completion_tokens,
                    seed=recipe.seed * 1_000_003 + place,
                )
            [choice] = response.choices
            extra = choice.message.model_extra or {}
            thought = extra.get("reasoning") or extra.get("reasoning_content")
            text = choice.message.content or ""
            if thought:
                text = f"{start}{thought}{end}{text}" if choice.finish_reason != "length" or text else start + thought
            if response.usage is None:
                raise TrainingError(f"{address} reports no token counts (usage) with its answers")
            used = response.usage.completion_tokens
            on_reply(place, Reply(text, used, "length" if choice.finish_reason == "length" else "stop"))

        await asyncio.gather(*(ask(place, question) for place, question in asked.items()))
