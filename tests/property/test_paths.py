"""Paths are cut and continued byte by byte as they were sampled, whatever the tokens' boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from reasoning.joining import JUNCTION
from training.paths import cut_at, joined
from training.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
BYTES = {character: byte for byte, character in bytes_to_unicode().items()}
WHOLE = set(TOKENIZER.all_special_tokens) | TOKENIZER.get_added_vocab().keys()

texts = st.text(st.characters(codec="utf-8") | st.sampled_from("é√😀 W"), max_size=20)
paths = st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=3 * JUNCTION) | texts.map(TOKENIZER.encode)


def raw(tokens):
    """The bytes that tokens stand for; those of a character may lie in several of them."""
    pieces = TOKENIZER.convert_ids_to_tokens(tokens)
    return b"".join(piece.encode() if piece in WHOLE else bytes(BYTES[one] for one in piece) for piece in pieces)


@given(paths, texts, st.integers(0, 3))
def test_appending_keeps_what_is_there(tokens, text, cut):
    tokens = tokens[: len(tokens) - cut]
    path, stayed = joined(TOKENIZER, tokens, text)
    assert raw(path) == raw(tokens) + text.encode()
    assert path[:stayed] == tokens[:stayed]


@given(st.lists(st.sampled_from(["So", "42", "é", "嗯。", "😀", "Wait"])).map(" ".join), texts)
def test_a_junction_is_encoded_as_the_whole_text_is(before, after):
    path, _ = joined(TOKENIZER, TOKENIZER.encode(before + " so"), "me" + after)
    assert path == TOKENIZER.encode(before + " some" + after)


@given(texts, st.sampled_from(["Wait", "…嗯", "😀"]), texts)
def test_a_cut_keeps_what_stands_before_the_stop_string(before, stop, after):
    text = before.partition(stop)[0]
    tokens = TOKENIZER.encode(text + stop + after)
    count, partial = cut_at(TOKENIZER, tokens, text)
    assert raw(tokens[:count]) + partial.encode() == text.encode()


def test_a_token_may_end_one_character_and_begin_the_stop_string():
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {piece: index for index, piece in enumerate([*alphabet, "©Ã"])}
    model = Tokenizer(BPE(vocabulary, [("©", "Ã")]))
    model.decoder = ByteLevelDecoder()
    tokens = [vocabulary[piece] for piece in ("Ã", "©Ã", "ģ")]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model)
    assert tokenizer.decode(tokens) == "éÁ"
    assert cut_at(tokenizer, tokens, "é") == (0, "é")


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_a_character_under_way_is_left_as_it_is(tokens):
    path = TOKENIZER.encode("😀")[:tokens]
    assert joined(TOKENIZER, path, "\n</think>\n\n")[0][:tokens] == path
