#!/usr/bin/env bash
# curl: the report is on each choice.
set -euo pipefail
url=${STEPGRPO_URL:-http://127.0.0.1:8000}
curl --fail --silent --show-error "$url/v1/chat/completions" \
  -H 'Content-Type: application/json' -H "Authorization: Bearer ${STEPGRPO_API_KEY:-none}" -d '{
    "model": "'"${STEPGRPO_MODEL:-step-grpo}"'", "temperature": 0, "max_reasoning_steps": 4,
    "messages": [{"role": "user", "content": "Leo has 12 stamps. In January 7 more are bought. In February 5 are sold. How many stamps does Leo have now?"}]}'
