# lora-packer in a small image, as a user without rights:
#   docker build -t lora-packer .
#   docker run --rm -v "$PWD:/work:ro" lora-packer check my-adapter
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY lora_packer lora_packer
RUN python -m venv /opt/lora-packer \
 && /opt/lora-packer/bin/python -m pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.12-slim
COPY --from=build /opt/lora-packer /opt/lora-packer
RUN useradd --system --uid 10001 --create-home --shell /usr/sbin/nologin packer
ENV PATH=/opt/lora-packer/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /work
ENTRYPOINT ["lora-packer"]
CMD ["--help"]
