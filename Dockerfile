# The command line and the worker: `docker run dynalake run orders`, with dynalake.toml mounted in /home/dynalake.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/
RUN python -m venv /opt/dynalake \
    && /opt/dynalake/bin/pip install --no-cache-dir --no-deps --only-binary=:all: --require-hashes --requirement requirements/runtime.txt
COPY . .
RUN /opt/dynalake/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --create-home --home-dir /home/dynalake --uid 10001 dynalake
COPY --from=build /opt/dynalake /opt/dynalake
ENV PATH=/opt/dynalake/bin:$PATH
USER 10001
WORKDIR /home/dynalake
ENTRYPOINT ["dynalake"]
CMD ["--help"]
