import subprocess
import sys


def test_the_domain_pulls_in_no_engine():
    code = "import reasoning, sys; print([m for m in ('torch', 'vllm', 'transformers', 'fastapi') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
