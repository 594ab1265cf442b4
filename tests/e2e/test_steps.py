"""The page cuts thinking into the same steps as the server's segmenter, however the text is chunked."""

import random

import pytest

from reasoning import Segmenter, parse_trace

MARKERS = ("Wait", "Wait a minute", "Alternatively", "**Check**", "等等")
PIECES = (
    *("Wait", "wait", "Waiting", "await", " Wait", "Wait,", "Wait a", " minute", "Wait a minutes", "Alternative", "ly"),
    *("**Check**", "**", "等等", "好Wait等", "é", "Ⅻ", "²", "_", "7", " ", "\n", ".", "💡", "So 56."),
)
TEXTS = ["", " \n", "Wait", "WaitWait", "Wait Wait", " \nWait, no. Wait", "é Wait", "éWait", "Wait a minut", "💡Wait💡"]

CUT = """
async ([markers, chunks]) => {
  const { StepSplitter } = await import("/web/steps.js");
  const splitter = new StepSplitter(markers);
  for (const chunk of chunks) splitter.feed(chunk, 1);
  const fed = splitter.tokens;
  splitter.close();
  return { fed, steps: splitter.steps.map(({ marker, text, tokens }) => [marker, text, tokens]) };
}
"""


def texts():
    generator = random.Random(7)
    for _ in range(150):
        yield "".join(generator.choice(PIECES) for _ in range(generator.randint(1, 14)))


def expected(chunks):
    """Steps by the server's rules; tokens by those that are fed one by one."""
    segmenter = Segmenter(MARKERS, inside=True)
    for chunk in chunks:
        segmenter.feed(chunk, 1)
    return [[step.marker, step.text, step.tokens] for step in segmenter.close("stop").steps]


@pytest.fixture
async def cut(page, scripted):
    await page.goto(scripted.url)

    async def cut(chunks):
        return await page.evaluate(CUT, [list(MARKERS), chunks])

    return cut


async def test_steps_and_their_tokens_equal_the_segmenters(cut):
    generator = random.Random(11)
    for text in [*TEXTS, *texts()]:
        chunks = []
        rest = text
        while rest:
            size = generator.randint(1, 6)
            chunks.append(rest[:size])
            rest = rest[size:]
        found = await cut(chunks)
        assert found["steps"] == expected(chunks), chunks
        assert found["fed"] == len(chunks)


async def test_the_chunking_changes_no_step(cut):
    for text in texts():
        whole = [[step.marker, step.text] for step in parse_trace(text, MARKERS, inside=True).steps]
        for chunks in (list(text), [text]):
            assert [step[:2] for step in (await cut(chunks))["steps"]] == whole
