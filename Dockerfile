# The reconciler (the last stage, the default) and its demo (target demo: `docker run --privileged`).

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md requirements.lock ./
COPY reconciler reconciler
COPY schemas schemas
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm AS demo
RUN apt-get update && apt-get install -y --no-install-recommends make git openssh-server systemd systemd-container \
        dbus nftables iproute2 procps python3-minimal nginx-light redis-server spiped \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN make .venv/ready
CMD ["make", "demo"]

FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends git openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/cache/reconciler reconciler
COPY requirements.lock /tmp/requirements.lock
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock \
    && pip install --no-cache-dir --no-deps /wheels/*.whl && rm -rf /wheels /tmp/requirements.lock
USER reconciler
EXPOSE 8470
ENTRYPOINT ["reconciler"]
CMD ["run"]
