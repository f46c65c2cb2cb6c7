# attn_mm on a CPU: docs/install.md#in-a-container
FROM python:3.11-slim

RUN pip install --no-cache-dir uv

WORKDIR /opt/attn-mm
COPY . .
# uv reads the versions and overrides of pyproject.toml, which leave out the OpenCV that needs a display.
RUN uv pip install --system --no-cache --torch-backend cpu \
    -e ".[lite,det,pose,action,pretrain,seg,explore]" opencv-python-headless

WORKDIR /work
ENTRYPOINT ["attn-mm"]
