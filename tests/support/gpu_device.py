"""Where the tests marked `gpu` run. They are the same on any device: GRIDLOOM_TEST_DEVICE=cpu tries their code here."""

from __future__ import annotations

import os

DEVICE = os.environ.get("GRIDLOOM_TEST_DEVICE", "cuda:0")
IS_GPU = DEVICE.startswith("cuda")
