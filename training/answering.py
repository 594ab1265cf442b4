"""Who answers: a checkpoint on the rollout engine, or any server that speaks the OpenAI API. Plain decoding only."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from training.chat import chat_tokens
from training.engines import open_engine
from training.errors import TrainingError
from training.recipe import Recipe
from training.sampler import Request, Sampling, generate

CONCURRENT = 64
KEY_VARIABLE = "STEPGRPO_API_KEY"
NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: text with its thinking block, completion tokens, and why it ended (``stop`` or ``length``)."""

    text: str
    tokens: int
    finish_reason: str


def is_url(model: str) -> bool:
    """Whether a model is a server's address."""
    return model.startswith(("http://", "https://"))


def from_checkpoint(
    recipe: Recipe, model: str, questions: Sequence[str], sampling: Sampling, samples: int
) -> list[list[Reply]]:
    """``samples`` answers a question from a checkpoint (folder or hub name).

    Raises:
        TrainingError: no such checkpoint, or a question that is longer than the recipe's prompts may be.
    """
    tokenizer = load_tokenizer(model)
    prompts = [chat_tokens(tokenizer, question) for question in questions]
    longest = max(range(len(prompts)), key=lambda index: len(prompts[index]))
    if (size := len(prompts[longest])) > recipe.rollout.max_prompt_tokens:
        raise TrainingError(
            f"question {longest + 1} takes {size} tokens, more than the recipe lets prompts have:"
            f" --set rollout.max_prompt_tokens={size}"
        )
    engine = open_engine(recipe, model, seed=recipe.seed)
    try:
        torch.manual_seed(recipe.seed)
        limit = recipe.rollout.max_completion_tokens
        found = generate(engine, [Request(prompt, limit, sampling) for prompt in prompts for _ in range(samples)])
    finally:
        engine.close()
    replies = [Reply(one.text, len(one.tokens), "length" if one.finish == "length" else "stop") for one in found]
    return [replies[start : start + samples] for start in range(0, len(replies), samples)]


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


def from_url(recipe: Recipe, url: str, questions: Sequence[str], sampling: Sampling, samples: int) -> list[list[Reply]]:
    """``samples`` answers a question from ``URL`` or ``URL#model`` (the first model that it lists by default).

    The server is sent ``STEPGRPO_API_KEY`` of the environment; ``OPENAI_API_KEY`` is sent to nobody.

    Raises:
        TrainingError: the server cannot be reached, refuses, or does not count tokens.
    """
    from openai import OpenAIError

    key = os.environ.get(KEY_VARIABLE) or NO_KEY
    try:
        return asyncio.run(_ask_all(recipe, url, questions, sampling, samples, key))
    except OpenAIError as error:
        said = str(error) if key == NO_KEY else str(error).replace(key, "***")
        # Without its cause, as a server may repeat the key in what it says.
        raise TrainingError(f"{url}: {said}; is it the base URL of an OpenAI-compatible server (…/v1)?") from None


async def _ask_all(
    recipe: Recipe, url: str, questions: Sequence[str], sampling: Sampling, samples: int, api_key: str
) -> list[list[Reply]]:
    from openai import AsyncOpenAI

    address, _, name = url.partition("#")
    places = asyncio.Semaphore(CONCURRENT)
    start, end = recipe.model.think
    async with AsyncOpenAI(base_url=address, api_key=api_key, timeout=3600) as client:
        model = name or (await client.models.list()).data[0].id

        async def ask(question: str, seed: int) -> Reply:
            async with places:
                response = await client.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": question}],
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=recipe.rollout.max_completion_tokens,
                    seed=seed,
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
            return Reply(text, used, "length" if choice.finish_reason == "length" else "stop")

        asked = [
            ask(question, recipe.seed * 1_000_003 + index)
            for index, question in enumerate(one for one in questions for _ in range(samples))
        ]
        replies = await asyncio.gather(*asked)
    return [list(replies[begin : begin + samples]) for begin in range(0, len(replies), samples)]
