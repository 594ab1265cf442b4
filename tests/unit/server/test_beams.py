from types import SimpleNamespace

import pytest

from server.beams import with_metered_beams
from server.report import ResponseReports, collecting

BEAMS = SimpleNamespace(beam_width=2, skip_special_tokens=True)


def searching(bench, *parts, check=lambda: None):
    async def search(prompt, request_id, params, lora_request=None, **options):
        yield bench.output(*parts)

    return with_metered_beams(search, bench.meter, check)


async def test_every_beam_is_counted_and_reported_once(bench):
    thought = "<think>\nTwo.\nWait, four.\n</think>\n\nSo 4."
    ending = bench.words.encode("<|im_end|>")[0]
    search = searching(bench, (0, thought, "stop", ending), (1, "<think>\nTwo", "length"))
    with collecting(ResponseReports()) as reports:
        assert len([output async for output in search("prompt", "id", BEAMS, trace_headers=None)]) == 1
    assert bench.exits() == {"model": 1, "length": 1}
    assert reports.get(0)["steps"] == 2
    assert reports.get(0)["tokens"]["completion"] == len(bench.words.encode(thought))


async def test_the_last_token_of_a_beam_has_text(bench):
    """Beams leave out the token that ended them, so the last one is part of the answer, or closes the block."""
    ending = bench.words.encode("<|im_end|>")[0]
    search = searching(bench, (0, "<think>\nTwo.</think>", "stop", ending), (1, "x", "abort"))
    assert [output async for output in search("prompt", "id", BEAMS)]
    assert bench.exits() == {"model": 1, "abort": 1}


def test_a_beam_search_that_must_not_be_is_refused_before_its_stream_begins(bench):
    def check():
        raise ValueError("no beams here")

    with pytest.raises(ValueError, match="no beams here"):
        searching(bench, check=check)("prompt", "id", BEAMS)
