# The reconciler (the last stage, the default) and its demo (target demo: `docker run --privileged`).

FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md requirements.lock ./
COPY reconciler reconciler
COPY schemas schemas
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm AS demo
RUN apt-get update && apt-get install -y --no-install-recommends make git openssh-server systemd systemd-container \
        dbus nftables iproute2 procps python3-minimal nginx-light redis-server spiped sudo opendoas \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN make .venv/ready
CMD ["make", "demo"]

FROM python:3.11-slim-bookworm
# Everything it writes goes to its cache, which may be lost: `docker run --read-only --cap-drop ALL --security-opt
# no-new-privileges` will do, with reconciler.toml and the keys, owned by 8470, mounted at /etc/reconciler.
RUN apt-get update && apt-get install -y --no-install-recommends git openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 8470 --user-group --shell /usr/sbin/nologin --create-home --home-dir /var/cache/reconciler reconciler
COPY requirements.lock /tmp/requirements.lock
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock \
    && pip install --no-cache-dir --no-deps /wheels/*.whl && rm -rf /wheels /tmp/requirements.lock
ENV TMPDIR=/var/cache/reconciler
VOLUME /var/cache/reconciler
WORKDIR /var/cache/reconciler
# a number: who runs images only as somebody else than root cannot tell it by a name
USER 8470:8470
EXPOSE 8470
ENTRYPOINT ["reconciler"]
CMD ["run"]
