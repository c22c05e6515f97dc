# gridloom in a container, for the CPU:
#
#   docker build -t gridloom .
#   docker run --rm -v "$PWD:/work" gridloom solve quickstart
#
# For CUDA name the index of PyTorch's wheels for it, as PyTorch's installation page gives it:
#
#   docker build -t gridloom:cuda --build-arg TORCH_INDEX_URL=... .
#   docker run --rm --gpus all -v "$PWD:/work" gridloom:cuda run trm-arc1-sprint
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheels

FROM python:${PYTHON}-slim
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
