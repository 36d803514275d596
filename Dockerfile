# Two stages: one makes the wheel and the environment that it is installed in, the other runs it.
FROM python:3.13-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY . .
RUN pip wheel --no-deps --wheel-dir /wheels .
# Without pip: what runs needs none, and what is not there cannot be used by those who break in.
RUN python -m venv --without-pip /opt/gofer \
    && pip --python /opt/gofer/bin/python install /wheels/*.whl


FROM python:3.13-slim-trixie

# Any other user will do, too, so a new volume must let all of them write; nobody else is in here.
RUN useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin gofer \
    && install --directory --mode=1777 /data \
    && install --directory /handlers
COPY --from=build /opt/gofer /opt/gofer

# Nothing is written but below /data. Python reads no module from the directory that it is started in.
ENV PATH=/opt/gofer/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    GOFER_HOST=0.0.0.0 \
    GOFER_STORE=sqlite:/data/gofer.db \
    GOFER_HANDLERS=/handlers

# Where there is no /tmp to write to, SQLite and handlers put what does not fit into memory into this directory.
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
# A number, so that Kubernetes can tell that it is not root.
USER 10001:10001

STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["gofer", "health"]
# The list form: without a shell in between, signals reach the program, which is process 1.
ENTRYPOINT ["gofer"]
CMD ["serve"]
