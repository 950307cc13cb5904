# Serves indexes over HTTP, as a user without rights, with the packaged MiniLM or a model of your own.
#
#   docker build -t smart-retrieval .
#   docker build -t smart-retrieval --build-arg MODEL=BAAI/bge-small-en-v1.5 .     a model of the hub, baked in
#   docker run --rm -v ./indexes:/indexes -v ./docs:/docs:ro smart-retrieval index /docs --index /indexes/docs.smart
#   docker run -p 127.0.0.1:8000:8000 -v ./indexes:/indexes -v smart-cache:/cache \
#     -v ./tokens:/run/secrets/tokens:ro smart-retrieval
#
# ./indexes and ./tokens belong to user 10001 (chown 10001), and only that user reads ./tokens (chmod 600).
# compose.yaml says the same in one file.

FROM python:3.11-slim AS build
# What is installed; "demo" brings MiniLM.
ARG EXTRAS=ann,demo,fast,fast-cpu,office,pdf,serve
# The CPU build of torch; https://download.pytorch.org/whl/cu128 for GPUs.
ARG TORCH=https://download.pytorch.org/whl/cpu
ARG MODEL=""
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/opt/models
RUN python -m venv /opt/venv && mkdir /opt/models
WORKDIR /build
COPY constraints.txt ./
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH" --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"
# hadolint ignore=DL3059
RUN if [ -n "$MODEL" ]; then hf download "$MODEL"; fi

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home smart && mkdir /indexes /cache && chown smart /indexes /cache
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/models /opt/models
# Models are baked in or mounted at HF_HOME; nothing is fetched while it runs. The cache holds the exported model and
# compiled kernels: where it is kept, the next container answers without waiting for torch.
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/opt/models HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 \
  SMART_CACHE=/cache/smart NUMBA_CACHE_DIR=/cache/numba
USER 10001
WORKDIR /indexes
VOLUME /indexes /cache
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["smart"]
CMD ["serve", "/indexes/docs.smart", "--host", "0.0.0.0", "--port", "8000", "--token-file", "/run/secrets/tokens"]
