"""LangChain: exit control goes in, thinking tokens come out.

LangChain keeps only fields that OpenAI's own API has, so the report itself is not in its messages.
"""

import os

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

model = ChatOpenAI(
    model=os.environ.get("STEPGRPO_MODEL", "step-grpo"),
    base_url=os.environ.get("STEPGRPO_URL", "http://127.0.0.1:8000") + "/v1",
    api_key=SecretStr(os.environ.get("STEPGRPO_API_KEY", "none")),
    temperature=0,
    extra_body={"max_reasoning_steps": 4},
)
answer = model.invoke(
    "Leo has 12 stamps. In January 7 more are bought. In February 5 are sold. How many stamps does Leo have now?"
)
print(answer.content)
print(answer.usage_metadata)
