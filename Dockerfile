# Toonport on the CPU, with the versions that are tested together.
#   docker build --tag toonport .
#   docker run --rm --volume "$PWD:/work" toonport convert photo2cartoon_weights.pt photo2cartoon.ckpt
FROM python:3.11-slim-bookworm

# What OpenCV and MindSpore load beside their wheels.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libglib2.0-0 libgomp1 libnuma1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY convert convert
COPY ms_models ms_models
COPY torch_ref torch_ref
COPY parity_tests parity_tests
COPY tools tools
COPY weights/manifest.toml weights/manifest.toml
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        --constraint constraints.txt '.[train,evaluate,heif]' \
    && rm -rf /src/*

ENV TOONPORT_WEIGHTS=/work/weights
WORKDIR /work
ENTRYPOINT ["toonport"]
CMD ["--help"]
