"""The OpenAI Python SDK: a stream, exit control, and the report on its last chunk."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("STEPGRPO_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=os.environ.get("STEPGRPO_API_KEY", "none"),
)
question = "Leo has 12 stamps. In January 7 more are bought. In February 5 are sold. How many stamps does Leo have now?"
stream = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": question}],
    stream=True,
    extra_body={"max_reasoning_steps": 4},
)
report = None
for chunk in stream:
    for choice in chunk.choices:
        thinking = (choice.delta.model_extra or {}).get("reasoning")
        print(thinking or choice.delta.content or "", end="", flush=True)
        report = (choice.model_extra or {}).get("reasoning_efficiency", report)
print("\n", report)
