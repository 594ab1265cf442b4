"""Text of tokens by a real tokenizer of the ``tokenizers`` library."""

from functools import cache
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.decoders import DecodeStream

from server.vllm_compat import VllmText

THINK = ("<think>", "</think>")


@cache
def text_of_bytes():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_end|>"])
    backend.add_tokens([AddedToken(tag, normalized=False) for tag in (*THINK, "<|user|>", "Wait")])
    tokenizer = SimpleNamespace(
        _tokenizer=backend,
        added_tokens_decoder=backend.get_added_tokens_decoder(),
        chat_template="<|user|>{{ message.content.split('</think>')[-1] }}<|im_end|>",
        all_special_ids=[backend.token_to_id("<|im_end|>")],
        decode=lambda tokens, skip_special_tokens: backend.decode(tokens, skip_special_tokens=skip_special_tokens),
    )
    tokenizer.encode = lambda string: backend.encode(string).ids
    return tokenizer


@pytest.fixture
def text():
    return text_of_bytes()


def test_tokens_one_by_one_give_the_text_of_all(text):
    string = "<think>\n3 × 4 = 12 😀</think> done<|im_end|>"
    vllm_text = VllmText(text, THINK)
    stream = vllm_text.stream(skip_special=False)
    pieces = [piece for token in text.encode(string) for piece in stream([token])]
    assert "".join(pieces) == string == vllm_text.decode(text.encode(string))
    assert pieces.count("") == 4, "the bytes of a character before its last have no text"


@given(tokens=st.lists(st.integers(-1, 280), max_size=12), before=st.lists(st.integers(0, 255), max_size=3))
def test_tokens_seen_before_have_the_text_of_the_librarys_stream(tokens, before):
    backend = text_of_bytes()._tokenizer
    vllm_text = VllmText(text_of_bytes(), THINK)
    for start in (before, before):
        library, ours = DecodeStream(ids=list(start), skip_special_tokens=False), vllm_text.decoder(start)
        for token in tokens:
            try:
                expected = library.step(backend, token) or ""
            except Exception:
                library, expected = DecodeStream(skip_special_tokens=False), ""
            assert ours(token) == expected


@given(tokens=st.lists(st.integers(0, 265), max_size=12), cut=st.integers(0, 12), skip=st.booleans())
def test_tokens_together_have_the_texts_of_each_by_itself(tokens, cut, skip):
    vllm_text = VllmText(text_of_bytes(), THINK)
    for _ in range(2):  # anew, and seen before
        together, single = vllm_text.stream(skip), VllmText(text_of_bytes(), THINK).stream(skip)
        expected = [piece for token in tokens for piece in single([token])]
        assert together(tokens[:cut]) + together(tokens[cut:]) == expected


def test_special_tokens_have_no_text_where_the_request_wants_none(text):
    stream = VllmText(text, THINK).stream(skip_special=True)
    tokens = text.encode("<think>a<|im_end|></think>b<|im_end|>")
    assert "".join(stream(tokens)) == "<think>a</think>b"


def test_a_token_outside_the_vocabulary_has_no_text(text):
    stream = VllmText(text, THINK).stream(skip_special=True)
    assert stream([10**6, -1]) == ["", ""]
    assert "".join(stream(text.encode("still"))) == "still"


def test_landmarks_are_the_special_tokens_and_those_of_the_chat_template(text):
    """Neither the thinking tags, which the template may hold, nor words that were added to the vocabulary."""
    assert VllmText(text, THINK).landmarks == frozenset(text.encode("<|im_end|><|user|>"))


def test_added_tokens_stand_for_their_text_alone(text):
    assert [VllmText(text, THINK).token("<think>")] == text.encode("<think>")
    assert VllmText(text, THINK).token("still") is None


def test_a_tokenizer_of_another_kind_has_no_stream():
    assert VllmText(SimpleNamespace(), THINK).stream(skip_special=True) is None
