import pytest

from loadtests.connection import HungUpError, Server, lines_of

STREAM = [b"data: 1\n", b"\n", b"data: 2\n", b"\n", b"data: [DONE]\n", b"\n"]


class Response:
    """A response of which everything has come."""

    def __init__(self):
        self.rest = [*STREAM, b""]
        self.released = False

    def readline(self, separator):
        assert separator == b"\n"
        return self.rest.pop(0)

    def release(self):
        self.released = True


def test_a_client_that_stays_gets_every_line():
    response = Response()
    assert list(lines_of(response, None)) == STREAM
    assert not response.released


def test_a_client_hangs_up_in_the_middle():
    response = Response()
    lines = lines_of(response, 1)
    assert next(lines) == STREAM[0]
    with pytest.raises(HungUpError):
        next(lines)
    assert response.released


def test_an_answer_that_is_over_before_is_an_answer():
    assert list(lines_of(Response(), 4)) == STREAM


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://127.0.0.1"])
def test_an_address_that_is_none_says_what_one_looks_like(url):
    with pytest.raises(SystemExit, match=r"--host http://127\.0\.0\.1:8000"):
        Server(url)
