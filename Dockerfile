# Image of the service, without a shell: docker build --tag latchkey .
#
# The build needs BuildKit, which `docker build` uses by default, or Buildah.

# The version is `rust-version` in Cargo.toml.
FROM rust:1.95-slim-bookworm AS build

# Tools to build OpenSSL, which is linked in. Their versions are not pinned: Debian keeps them secure.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make perl \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY benches benches
COPY migrations migrations
COPY src src

# The built dependencies are cached between builds. The cache is not part of a layer, so the program has to be
# copied out of it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin latchkey \
    && install -D target/release/latchkey /image/usr/local/bin/latchkey \
    && install -d -m 0700 -o 65532 -g 65532 /image/data

FROM gcr.io/distroless/cc-debian12:nonroot

LABEL org.opencontainers.image.title="latchkey" \
      org.opencontainers.image.description="API key management: sign up, create keys, check them on every request, revoke them everywhere at once" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

COPY --from=build /image/usr/local/bin/latchkey /usr/local/bin/latchkey
COPY --from=build --chown=65532:65532 /image/data /data

# A numeric user, so that the container runtime can verify that it is not root.
USER 65532:65532

# The embedded database is in `data/` of the working directory.
WORKDIR /
VOLUME ["/data"]

ENV HOST=0.0.0.0
EXPOSE 8000

STOPSIGNAL SIGTERM
# Checks only that the process is alive. Many orchestrators restart an unhealthy container, and a restart does not
# repair an unreachable database. `health` itself has a timeout of ten seconds.
HEALTHCHECK --interval=15s --timeout=12s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/latchkey", "health", "--live"]
ENTRYPOINT ["/usr/local/bin/latchkey"]
CMD ["serve"]
