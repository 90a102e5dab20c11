# The service in an image without a shell: docker build --tag latchkey .
#
# It needs BuildKit, which `docker build` uses by default, or Buildah.

# The version is `rust-version` in Cargo.toml.
FROM rust:1.95-slim-bookworm AS build

# For OpenSSL, which is built in. Their versions are Debian's to keep safe.
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

# What was built of the dependencies is kept from one build to the next. It is in no layer, so the
# program has to leave the folder.
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

# A number, so that whoever runs it can see that it is not root.
USER 65532:65532

# The embedded database is in `data/` of the working folder.
WORKDIR /
VOLUME ["/data"]

ENV HOST=0.0.0.0
EXPOSE 8000

STOPSIGNAL SIGTERM
# Whether it answers at all: many who start containers restart one that is not healthy, which brings no
# database back. `health` itself waits for ten seconds.
HEALTHCHECK --interval=15s --timeout=12s --start-period=30s --retries=3 \
    CMD ["/usr/local/bin/latchkey", "health", "--live"]
ENTRYPOINT ["/usr/local/bin/latchkey"]
CMD ["serve"]
