from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reasoning import DEFAULT_MARKERS, Segmenter, count_steps, marker_pattern, parse_trace

WORDS = ["<think>", "</think>", "Wait", "Alternatively", "Hmm", "Waiting", "await", "butter", "so 4", "é", "等等", "🙂"]
PIECES = st.sampled_from([*WORDS, "<", "</", "think>", "W", " ", "\n", ".", ", "]) | st.text(max_size=3)
TEXTS = st.lists(PIECES, max_size=30).map("".join)
ENDINGS = st.sampled_from(["stop", "length", "abort"])


def segment(pieces, ending, inside=False, tokens=True):
    segmenter = Segmenter(inside=inside)
    for piece in pieces:
        segmenter.feed(piece, int(tokens))
    return segmenter.close(ending)


@st.composite
def chunkings(draw):
    text = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return text, [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(chunkings(), ENDINGS, st.booleans())
def test_any_chunking_gives_the_same_steps(case, ending, inside):
    text, chunks = case
    whole = segment([text], ending, inside, tokens=False)
    assert segment(chunks, ending, inside, tokens=False) == whole
    assert segment(list(text), ending, inside, tokens=False) == whole


MARKER_SETS = [
    (),
    ("Wait", "Wait a minute"),
    ("I Wait so", "Wait"),
    ("aa", "a"),
    ("a*", "*b"),
    ("**", "E"),
    ("等等",),
    ("<", "think"),
]
TAG_PAIRS = [("<think>", "</think>"), ("BEGIN", "END"), ("aab", "aaa"), ("[", "]"), ("]", "b]")]
AWKWARD = st.sampled_from(
    ["Wait", "Wait a", " minute", "I ", " so", "a", "b", "*", "E", "ND", "BEGIN", "[", "]", "等", " "]
)


@given(st.lists(PIECES | AWKWARD, max_size=30), st.sampled_from(MARKER_SETS), st.sampled_from(TAG_PAIRS), st.booleans())
def test_whatever_the_markers_and_tags_streaming_finds_what_the_whole_text_holds(pieces, markers, tags, inside):
    text = "".join(pieces)
    segmenter = Segmenter(markers, tags, inside)
    for character in text:
        segmenter.feed(character)
    trace = segmenter.close("stop")
    assert trace == parse_trace(text, markers, tags, inside=inside)

    ends = {tag: text.find(tag) + len(tag) for tag in tags if tag in text}
    first = min(ends, key=lambda tag: (ends[tag], -len(tag)), default=None)
    if not inside and first is None:
        assert (trace.answer, trace.steps) == (text, ())
        return
    preamble, _, block = text.partition(tags[0]) if not inside and first == tags[0] else ("", "", text)
    reasoning, _, answer = block.partition(tags[1])
    assert (trace.preamble, trace.reasoning, trace.answer) == (preamble, reasoning, answer)
    cuts = [0, *(match.start() for match in marker_pattern(markers).finditer(reasoning)), len(reasoning)]
    if len(cuts) > 2 and not reasoning[: cuts[1]].strip():
        del cuts[1]
    spans = [reasoning[start:end] for start, end in pairwise(cuts)] if reasoning.strip() else []
    assert [step.text for step in trace.steps] == spans


@given(chunkings(), st.sampled_from(MARKER_SETS), st.sampled_from(TAG_PAIRS), ENDINGS, st.booleans(), st.data())
def test_tokens_fed_together_count_as_if_fed_one_by_one(case, markers, tags, ending, inside, data):
    _, tokens = case
    alone, together = Segmenter(markers, tags, inside), Segmenter(markers, tags, inside)
    for token in tokens:
        alone.feed(token, 1)
    while tokens:
        size = data.draw(st.integers(1, len(tokens)))
        together.feed_tokens(tokens[:size])
        tokens = tokens[size:]
    assert together.close(ending) == alone.close(ending)


@given(chunkings(), st.booleans())
def test_a_token_fed_whole_counts_where_it_begins_however_the_text_was_cut(case, inside):
    text, chunks = case
    trace = segment(chunks, "stop", inside)
    starts = [0]
    for chunk in chunks[:-1]:
        starts.append(starts[-1] + len(chunk))
    opened = text.startswith("<think>", len(trace.preamble)) and not inside
    for step in trace.steps:
        first, last = step is trace.steps[0], step is trace.steps[-1]
        start = step.start - (len("<think>") if opened and first else 0)
        end = step.end + (len("</think>") if last and trace.exit.reason == "model" else 0)
        if last and trace.exit.reason != "model":
            end = len(text) + 1
        assert step.tokens == sum(start <= position < end for position in starts)


@given(TEXTS, ENDINGS, st.booleans())
def test_steps_tile_the_thinking_block(text, ending, inside):
    trace = segment([text], ending, inside)
    if trace.steps:
        assert "".join(step.text for step in trace.steps) == trace.reasoning
        assert all(a.end == b.start for a, b in zip(trace.steps, trace.steps[1:], strict=False))
    else:
        assert not trace.reasoning.strip()


@given(chunkings(), ENDINGS, st.booleans(), st.integers(0, 5))
def test_token_counts_add_up(case, ending, inside, tokens):
    _, chunks = case
    segmenter = Segmenter(inside=inside)
    for chunk in chunks:
        segmenter.feed(chunk, tokens)
    trace = segmenter.close(ending)
    assert sum(step.tokens for step in trace.steps) == trace.exit.reasoning_tokens
    assert trace.exit.reasoning_tokens + trace.answer_tokens == trace.completion_tokens == tokens * len(chunks)


@given(TEXTS)
def test_the_text_is_its_parts(text):
    trace = segment([text], "stop")
    assert trace.text == text
    opening = "<think>" if text.startswith("<think>", len(trace.preamble)) and trace.exit.reason != "none" else ""
    closing = "</think>" if trace.exit.reason == "model" else ""
    assert trace.preamble + opening + trace.reasoning + closing + trace.answer == text


@given(TEXTS)
def test_the_number_of_steps_is_the_papers_count(text):
    trace = segment([text], "stop")
    if trace.steps:
        opened_by_marker = trace.steps[0].marker is not None
        assert len(trace.steps) == count_steps(trace.reasoning, DEFAULT_MARKERS) - opened_by_marker


@given(st.sampled_from(DEFAULT_MARKERS), st.text("abcxyzé", min_size=1), st.booleans())
def test_a_marker_inside_a_word_never_splits(marker, letters, before):
    word = letters + marker if before else marker + letters
    assert len(segment([f"<think>so {word} 4</think>"], "stop").steps) == 1
