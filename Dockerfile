# gridloom in a container, for the CPU:
#
#   docker build -t gridloom .
#   docker run --rm -v "$PWD:/work" gridloom solve quickstart
#
# For CUDA name the index of PyTorch's wheels for it, as PyTorch's installation page gives it:
#
#   docker build -t gridloom:cuda --build-arg TORCH_INDEX_URL=... .
#   docker run --rm --gpus all -v "$PWD:/work" gridloom:cuda run trm-arc1-sprint
#
# Those wheels bring CUDA's libraries, so that the base is the same; any other with Python and pip: --build-arg BASE=...
# With what the tests need, Slurm's programs among it, as the image `tests`:
#
#   docker build -t gridloom-tests --target tests .
#   docker run --rm --shm-size 2g gridloom-tests
#   docker run --rm gridloom-tests python -m pytest -m slurm tests/runtime/cluster/test_slurm.py
ARG PYTHON=3.12
ARG BASE=python:${PYTHON}-slim
FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheels

FROM ${BASE} AS gridloom
# torch by exact version has a CPU wheel; an index of CUDA wheels gives the same version for the GPU
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX_URL=
ARG EXTRAS=plots,tensorboard
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir ${TORCH_INDEX_URL:+--index-url "${TORCH_INDEX_URL}"} "${TORCH}" \
 && pip install --no-cache-dir -c /tmp/constraints.txt "$(ls /tmp/wheels/*.whl)[${EXTRAS}]" \
 && rm -rf /tmp/wheels /tmp/constraints.txt
# the project's folder is mounted at /work, where specs and the workspace .gridloom are; models stay in a volume
WORKDIR /work
ENV GRIDLOOM_CACHE=/cache
VOLUME ["/cache"]
ENTRYPOINT ["gridloom"]
CMD ["--help"]

FROM gridloom AS tests
# chromium opens the viewer, g++ is torch's compiler's; the rest is a Slurm of this one host
RUN apt-get update \
 && apt-get install -y --no-install-recommends chromium g++ make munge slurm-client slurmctld slurmd \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir -c constraints.txt -e ".[dev]"
ENV CI=true OMP_NUM_THREADS=1
ENTRYPOINT []
CMD ["python", "-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]

# what a build without a target makes
FROM gridloom
