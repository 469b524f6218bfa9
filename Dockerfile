# One image for every service of docker-compose.yml: the commands, MLflow's server, the dashboard.
# TORCH_INDEX is where torch comes from: PyTorch's wheels for the CPU, or for a CUDA version.
FROM python:3.11.14-slim-bookworm

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# torch by itself first: it is most of the image, and changes least
RUN pip install --index-url "$TORCH_INDEX" "torch>=2.6,<2.14"

COPY pyproject.toml README.md /opt/tuner/
COPY tuner /opt/tuner/tuner
COPY app /opt/tuner/app
RUN pip install "/opt/tuner[postgres,login,ray]"

# the folders are made here so that volumes mounted on them belong to the user, too
RUN useradd --create-home --uid 1000 tuner && mkdir -p /work/runs /artifacts && chown -R tuner /work /artifacts
COPY search_spaces /work/search_spaces
USER tuner
WORKDIR /work
CMD ["tuner", "--help"]
