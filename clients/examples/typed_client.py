"""This project's client: typed events, exit control and report."""

import os

from clients import Answer, Client, ExitControl, ThinkingText

question = "Leo has 12 stamps. In January 7 more are bought. In February 5 are sold. How many stamps does Leo have now?"
with Client(os.environ.get("STEPGRPO_URL", "http://127.0.0.1:8000")) as client:
    for event in client.stream(question, ExitControl(max_reasoning_steps=4), temperature=0):
        if isinstance(event, Answer):
            print("\n", event.report)
        else:
            dim = isinstance(event, ThinkingText)
            print(f"\033[2m{event.text}\033[0m" if dim else event.text, end="", flush=True)
