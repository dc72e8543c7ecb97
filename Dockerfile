# The hub's image: REST hub, worker, beat and migrations, by the command given to it.
# The server needs the SDK's wheel for hansa_core alone, so no torch comes with it, and of the
# console only what it was built into, so no Node.

FROM node:22.20.0-bookworm-slim AS console

# Dependencies first: this layer stays while only the console's code changes.
WORKDIR /opt/hansa/admin_ui
COPY admin_ui/.npmrc admin_ui/package.json admin_ui/package-lock.json ./
RUN npm ci
COPY openapi.json ../
COPY admin_ui ./
RUN npm run build


FROM python:3.11.14-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /opt/hansa

# Dependencies first: this layer stays while only the hub's code changes.
COPY constraints.txt pyproject.toml ./
COPY client_sdk client_sdk
RUN pip install -c constraints.txt ./client_sdk . \
    && if python -c "import torch" 2>/dev/null; then echo "torch is in the server image" >&2; exit 1; fi

# Editable, because alembic.ini and the migrations lie beside the packages.
COPY alembic.ini ./
COPY app app
COPY worker worker
COPY migrations migrations
RUN pip install --no-deps -e . \
    && python -m compileall -q app worker migrations


FROM python:3.11.14-slim-bookworm

# Uploads are staged in TMPDIR, so it is a folder that a volume can lie on, never a tmpfs.
RUN useradd --system --uid 10001 --home-dir /var/lib/hansa --shell /usr/sbin/nologin hansa \
    && install -d -o hansa -g hansa -m 0700 /var/lib/hansa /var/lib/hansa/staging
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/hansa /opt/hansa
COPY --from=console /opt/hansa/admin_ui/dist /opt/hansa/admin_ui/dist

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/var/lib/hansa/staging
WORKDIR /opt/hansa
USER hansa
EXPOSE 8400
ENTRYPOINT ["hansa-hub"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8400"]
