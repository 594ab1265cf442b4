"""The quickstart model's tokenizer: byte-level BPE; 0 to 99 are one token each, alone or after a space."""

import random
from collections.abc import Iterator
from itertools import islice

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from reasoning import ANSWER_PROMPT
from reasoning.segmenter import DEFAULT_TAGS
from training.problems import problems
from training.traces import Habits, answer_text, write_trace

END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"
VOCABULARY = 768

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{%- set content = message.content %}"
    "{%- if message.role == 'assistant' and '" + DEFAULT_TAGS[1] + "' in content %}"
    "{%- set content = content.split('" + DEFAULT_TAGS[1] + "')[-1].lstrip('\\n') %}"
    "{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '" + "\\n\\n".join(DEFAULT_TAGS) + "\\n\\n' }}"
    "{%- endif %}"
    "{%- endif %}"
)

_WORDS = Regex(r" ?\\?[A-Za-z]+| ?\d{1,2}| ?[^\sA-Za-z\d]|\s")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer on generated text (the same one at every call). Any string encodes, by its bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_WORDS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PADDING, "<|im_start|>", END_OF_TURN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    tokenizer.add_tokens(list(DEFAULT_TAGS))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TURN, pad_token=PADDING, model_max_length=2048
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _corpus() -> Iterator[str]:
    rng = random.Random(0)
    for number in range(100):
        yield from [str(number), f" {number}"] * 1000
    for problem in islice(problems("train", 0), 4000):
        trace = write_trace(problem, rng, Habits())
        yield f"user\n{problem.question}\nassistant\n{trace.thinking}{ANSWER_PROMPT}\n\n{answer_text(trace.answer)}"
