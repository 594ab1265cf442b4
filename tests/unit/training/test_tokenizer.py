import pytest

from reasoning.segmenter import DEFAULT_TAGS
from training.tokenizer import build_tokenizer


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
