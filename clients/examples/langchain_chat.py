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
answer = model.invoke("Tom has 12 apples. In January 7 more arrive. How many apples does Tom have now?")
print(answer.content)
print(answer.usage_metadata)
