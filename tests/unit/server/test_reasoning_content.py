import json

from pydantic import BaseModel, ConfigDict

from server.reasoning_content import with_reasoning_content


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Message(Open):
    reasoning: str | None = None


class Choice(Open):
    message: Message


class Response(Open):
    choices: list[Choice]


async def answered(response):
    async def handler(request):
        return response

    return await with_reasoning_content(handler)(None)


async def test_the_thinking_of_a_message_has_both_names():
    thinking, none = Choice(message=Message(reasoning="hm")), Choice(message=Message())
    response = await answered(Response(choices=[thinking, none]))
    assert [choice["message"] for choice in response.model_dump()["choices"]] == [
        {"reasoning": "hm", "reasoning_content": "hm"},
        {"reasoning": None},
    ]


async def test_what_has_no_messages_stays_as_it_is():
    error, completion = Open(message="no"), Open(choices=[Open(text="12")])
    assert await answered(error) is error
    assert (await answered(completion)).model_dump() == {"choices": [{"text": "12"}]}


async def test_the_thinking_of_a_stream_has_both_names_and_all_else_is_untouched():
    thought = {"choices": [{"index": 0, "delta": {"reasoning": 'so "it" is'}}], "usage": None}
    others = [
        'data: {"choices":[{"delta":{"content":"the \\"reasoning\\": none"}}]}\n\n',
        'data: {"choices":[{"delta":{"reasoning":null}}]}\n\n',
        "data: [DONE]\n\n",
        Open(type="response.created"),
    ]

    async def stream():
        yield f"data: {json.dumps(thought, separators=(',', ':'))}\n\n"
        for event in others:
            yield event

    first, *rest = [event async for event in await answered(stream())]
    thought["choices"][0]["delta"]["reasoning_content"] = 'so "it" is'
    assert json.loads(first.removeprefix("data: ")) == thought
    assert rest == others
