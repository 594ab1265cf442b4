import random

import pytest

from reasoning import ANSWER_PROMPT
from reasoning.segmenter import DEFAULT_TAGS
from training.problems import take
from training.sft import IGNORED, _example, collate
from training.tokenizer import build_tokenizer
from training.traces import DRILL


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_numbers_below_100_are_one_token_alone_or_after_a_space(tokenizer):
    for number in range(100):
        assert len(tokenizer.encode(str(number))) == len(tokenizer.encode(f" {number}")) == 1


@pytest.mark.parametrize("text", ["12 + 5 = 17", "日本 é 🙂", "\\boxed{123456}", "<think>\n x </think>", "\t tab\r\n"])
def test_any_text_survives(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_tags_are_single_tokens_that_are_never_skipped(tokenizer):
    for tag in DEFAULT_TAGS:
        ids = tokenizer.encode(tag)
        assert len(ids) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == tag


def test_it_is_the_same_at_every_build(tokenizer):
    assert build_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_the_template_drops_earlier_thinking(tokenizer):
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nx\n</think>\n\nb"},
        {"role": "user", "content": "c"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert "<think>" not in text
    assert text.endswith("<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n")


def test_a_trace_cut_early_teaches_what_follows_the_cut_and_the_true_answer(tokenizer):
    """Rollouts write the blank lines themselves, so a base that does not know them is never corrected later."""
    problem = take("train", 0, 1)[0]
    taught = set()
    for seed in range(20):
        example = _example(tokenizer, problem, DRILL, 1.0, random.Random(seed))
        taught.add(tokenizer.decode(example.tokens[example.learned_from :]))
        shown = tokenizer.decode(example.tokens[: example.learned_from])
        assert shown.endswith((ANSWER_PROMPT, DEFAULT_TAGS[1]))
    assert taught == {
        f"{{{problem.answer}}}</think>",
        f"\n\nThe answer is \\boxed{{{problem.answer}}}.<|im_end|>",
    }


def test_padding_and_prompts_are_not_learned(tokenizer):
    examples = [_example(tokenizer, p, DRILL, 0.0, random.Random(0)) for p in take("train", 0, 3)]
    tokens, labels = collate(examples, tokenizer.pad_token_id)
    for row, example in enumerate(examples):
        learned = labels[row] != IGNORED
        assert learned.sum() == len(example.tokens) - example.learned_from
        assert (tokens[row][learned] == labels[row][learned]).all()
