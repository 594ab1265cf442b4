import pytest

from server.outlet import Outlet, nowhere

HEAD = {"type": "http.response.start", "status": 200, "headers": []}
PART = {"type": "http.response.body", "body": b"a", "more_body": True}
LAST = {"type": "http.response.body", "body": b"b"}


@pytest.fixture
def sent():
    return []


@pytest.fixture
def client(sent):
    async def send(message):
        sent.append(message)

    return send


@pytest.fixture
def outlet(client):
    return Outlet(client)


async def test_every_message_goes_out_in_order(outlet, sent):
    for message in (HEAD, PART, LAST):
        await outlet(message)
    assert sent == [HEAD, PART, LAST]


async def test_it_knows_how_far_the_response_is(outlet):
    states = [(outlet.head, outlet.ended)]
    for message in (HEAD, PART, LAST):
        await outlet(message)
        states.append((outlet.head, outlet.ended))
    assert states == [(None, False), (HEAD, False), (HEAD, False), (HEAD, True)]


def test_middlewares_that_stand_side_by_side_share_one(outlet, client):
    assert Outlet.at(outlet) is outlet
    assert Outlet.at(client) is not Outlet.at(client)


async def test_watchers_see_the_head_once_from_the_inside_out_and_may_change_it(outlet, sent):
    for number in range(3):
        outlet.watch(lambda head, number=number: head["headers"].append(number))
    await outlet({**HEAD, "headers": []})
    await outlet(PART)
    assert sent == [{**HEAD, "headers": [2, 1, 0]}, PART]


async def test_a_watcher_may_divert_the_response_before_those_further_out_see_it(outlet, sent):
    seen, elsewhere = [], []

    async def divert(message):
        elsewhere.append(message)

    outlet.watch(lambda head: seen.append(head["status"])).watch(lambda head: divert if head["status"] > 499 else None)
    failed = {**HEAD, "status": 500}
    await outlet(failed)
    await outlet(LAST)
    assert (seen, sent, elsewhere, outlet.head) == ([], [], [failed, LAST], None)
    outlet.release()
    await outlet(HEAD)
    await outlet(LAST)
    assert (seen, sent, outlet.ended) == ([200], [HEAD, LAST], True)


async def test_a_stream_that_is_diverted_has_not_ended(outlet, sent):
    await outlet(HEAD)
    outlet.divert(nowhere)
    await outlet(LAST)
    assert (sent, outlet.ended) == ([HEAD], False)
    outlet.release()
    await outlet(LAST)
    assert (sent, outlet.ended) == ([HEAD, LAST], True)


async def test_parts_may_have_a_way_of_their_own(client, sent):
    parts = []

    async def send_part(message):
        parts.append(message)

    outlet = Outlet(client, send_part)
    for message in (HEAD, PART, LAST):
        await outlet(message)
    assert (sent, parts, outlet.ended) == ([HEAD], [PART, LAST], True)


async def test_messages_of_a_websocket_pass_unseen(outlet, sent):
    outlet.watch(lambda head: sent.append("a head"))
    accepted = {"type": "websocket.accept"}
    await outlet(accepted)
    assert sent == [accepted]
