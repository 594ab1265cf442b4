import codecs

import pytest

from server.path import Path


class Bytes:
    """A tokenizer whose tokens are bytes, so that a character may take several."""

    def decode(self, tokens):
        return bytes(tokens).decode(errors="replace")

    def encode(self, text):
        return list(text.encode())

    def decoder(self, after):
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        return lambda token: decode(bytes([token]))


def path_of(text, scored=False):
    path = Path([0], Bytes(), scored)
    path.begin("")
    path.sampled(list(text.encode()), [{token: 0.5} for token in text.encode()] if scored else None)
    return path


def released(path, shown=None):
    return bytes(token.id for token in path.release(shown))


def text_of(path):
    return bytes(path.ids[1:]).decode()


def test_tokens_are_handed_out_as_far_as_their_text_is_certain():
    path = path_of("Two. Wa")
    assert released(path, 5) == b"Two. "
    assert released(path, 5) == b""
    assert released(path) == b"Wa"


def test_a_piece_of_a_character_waits_for_the_rest_of_it():
    """It may belong to a marker that is still dropped."""
    path = path_of("a不")
    assert released(path, 1) == b"a"
    assert released(path, 2) == "不".encode()


def test_a_cut_drops_the_stop_string_and_what_came_behind_it():
    path = path_of("Two. Waiting")
    assert path.cut("Two. ", "Wait") == "ing"
    assert text_of(path) == "Two. "
    assert released(path) == b"Two. "


def test_a_cut_between_the_bytes_of_characters():
    path = path_of("é不对x")
    assert path.cut("é", "不对") == "x"
    assert text_of(path) == "é"


def test_what_is_put_back_keeps_the_tokens_that_were_sampled():
    path = path_of("Two. Waiting", scored=True)
    path.cut("Two. ", "Wait")
    path.begin("Waiting")
    assert text_of(path) == "Two. Waiting"
    assert not path.unscored


def test_what_is_appended_instead_has_no_log_probabilities_until_it_is_scored():
    path = path_of("Two. Wait", scored=True)
    path.cut("Two. ", "Wait")
    path.begin("\n!")
    assert text_of(path) == "Two. \n!"
    assert path.unscored
    assert released(path) == b"Two. "
    path.score([None, *({token: 0.25} for token in path.ids[1:])])
    assert [token.logprobs for token in path.release()] == [{10: 0.25}, {33: 0.25}]


class Merging(Bytes):
    """A full stop and the line break behind it are one token, as BPE makes of what stands together often."""

    MERGED = 256

    def encode(self, text):
        tokens = super().encode(text)
        at = [i for i in range(len(tokens) - 1) if tokens[i : i + 2] == [*b".\n"]]
        return [self.MERGED if i in at else t for i, t in enumerate(tokens) if i - 1 not in at]

    def decode(self, tokens):
        return super().decode([byte for t in tokens for byte in ([*b".\n"] if t == self.MERGED else [t])])


def test_a_probe_is_encoded_as_the_text_that_it_makes():
    """In training rollouts, too: a threshold that was learned there means the same here."""
    path = Path([0], Merging())
    path.begin("")
    path.sampled([*b"Two."], None)
    assert path.probe("\n!") == [0, *b"Two", Merging.MERGED, *b"!"]
    assert path.ids == [0, *b"Two."]


def test_a_probe_leaves_the_path_as_it_is():
    path = path_of("Two. Wait")
    path.cut("Two. ", "Wait")
    assert bytes(path.probe("\n!")[1:]) == b"Two. \n!"
    assert text_of(path) == "Two. "


class Merged(Bytes):
    """Tokens are bytes, and 256 is ``. Wait``, which straddles what a cut keeps."""

    def decoder(self, after):
        decode = super().decoder(after)
        return lambda token: ". Wait" if token == 256 else decode(token)


@pytest.fixture
def straddled():
    path = Path([0], Merged(), scored=True)
    path.begin("")
    path.sampled([*b"Two", 256], [{token: 0.5} for token in [*b"Two", 256]])
    assert path.cut("Two. ", "Wait") == ""
    return path


def test_text_that_a_cut_left_of_a_token_counts_as_tokens_of_its_own(straddled):
    assert len(straddled) == len("Two. ")
    assert straddled.ids[1:] == [*b"Two"]


def test_text_that_a_cut_left_of_a_token_is_encoded_with_what_is_appended(straddled):
    straddled.begin("!")
    assert straddled.ids[1:] == [*b"Two. !"]


def test_a_token_that_was_cut_is_put_back_whole(straddled):
    straddled.begin("Wait")
    assert straddled.ids[1:] == [*b"Two", 256]


def test_text_that_a_cut_left_of_a_token_is_dropped_where_nothing_follows(straddled):
    assert [token.id for token in straddled.release()] == [*b"Two"]
