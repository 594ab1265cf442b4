"""The client's splitter cuts as the server's segmenter does, whatever the chunks."""

from hypothesis import given
from hypothesis import strategies as st

from clients.steps import StepSplitter
from reasoning import parse_trace

MARKERS = ("Wait", "Alternatively", "Hmm", "Wait, no", "**Check**", "等等")
words = st.sampled_from(
    [*MARKERS, "Waiting", "await", "Wai", "Alter", "so 12", ". ", " ", "\n", "é", "等", "**", ", no", "_", "7"]
)
thinking = st.lists(words, max_size=20).map("".join)


def split(chunks):
    splitter = StepSplitter(MARKERS)
    steps, markers = {}, {}
    for piece in [piece for chunk in chunks for piece in splitter.feed(chunk)] + splitter.close():
        steps[piece.step] = steps.get(piece.step, "") + piece.text
        markers.setdefault(piece.step, piece.marker)
    return [(steps[number], markers[number]) for number in sorted(steps)]


@given(thinking, st.data())
def test_steps_are_the_servers(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    trace = parse_trace(text, MARKERS, inside=True)
    assert split(chunks) == [(step.text, step.marker) for step in trace.steps]
    assert split(text) == split(chunks)
