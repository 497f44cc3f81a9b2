# The gateway in a container. `compose.yaml` runs it with Redis and nginx.
#
#   docker build --tag progress-gateway .
#   docker run --rm -p 8000:8000 -e PROGRESS_GATEWAY_SECRET="$(openssl rand -hex 32)" progress-gateway

FROM debian:bookworm-slim

RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home-dir /opt/gateway --shell /usr/sbin/nologin gateway

COPY pyproject.toml README.md LICENSE /src/
COPY gateway /src/gateway
COPY web /src/web
RUN python3 -m venv /opt/gateway \
 && /opt/gateway/bin/pip install --no-cache-dir '/src[server]' \
 && rm -rf /src

ENV PATH=/opt/gateway/bin:/usr/local/bin:/usr/bin:/bin
ENV PYTHONDONTWRITEBYTECODE=1
ENV PROGRESS_GATEWAY_BIND=0.0.0.0:8000
# Load balancers go on sending connections for a moment after the container was told to stop.
ENV PROGRESS_GATEWAY_SHUTDOWN_DELAY=5

USER gateway
EXPOSE 8000
# Not ready for longer than the grace period of `docker stop` is nothing to restart for.
HEALTHCHECK --interval=10s --timeout=5s CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["gateway", "serve"]
