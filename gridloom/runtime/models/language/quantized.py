"""A language model whose layers' matrices are held in 4 bits, through transformers and bitsandbytes.

NF4 (arXiv 2305.14314): a matrix is cut into blocks of 64 weights; a weight is one of 16 levels, spaced as the quantiles
of a normal distribution, times its block's largest magnitude. Those magnitudes are held in 8 bits, in blocks of 256
with an fp32 scale each: 4.127 bits a weight in all. A product first gives a matrix its `precision` back. Embeddings,
norms and the output head keep `precision`.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.optional_packages import needed
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.language.weights.folders import CONFIG, held_as

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MOST_OFF = 0.2
"""What rounding can do to a weight, of its block's largest: half of the widest gap between levels, 0.152; bf16; scales.

Kernels that are wrong were seen: bitsandbytes 0.50.2 on a CPU, for rows whose length is a multiple of 16 and not of 64.
"""
_REMEDY = "say  quantize: none  , or run on a device that this bitsandbytes supports"


def loading_options(spec: LlamaModel, folder: Path, device: str | torch.device) -> dict[str, Any]:
    """Return what `from_pretrained` wants beside the folder for weights held as `spec.quantize` says.

    Raises GridloomError naming the extra where a package is absent, ModelError where bitsandbytes does not run on the
    device, or where the folder's weights are quantised already.
    """
    # onto the device as they are read: quantised weights are not moved afterwards
    placed = {"device_map": {"": str(device)}}
    method = _held_as(folder)
    if spec.quantize == "none":
        return placed if method else {}
    if method:
        raise ModelError(
            f"the weights of LLaMA '{spec.weights}' in {folder} are quantised already ({method}), and the "
            f"spec says quantize: {spec.quantize}",
            "say  quantize: none  , or name the whole weights",
        )
    what_for = f"a language model with  quantize: {spec.quantize}"
    with needed("bitsandbytes", "quant", what_for):
        import bitsandbytes  # noqa: F401  told apart from what fails in it
    with needed("accelerate", "quant", what_for):
        import accelerate  # noqa: F401  transformers loads quantised weights through it
    _runs_on(torch.device(device), DTYPES[spec.precision])
    import transformers

    return {
        "quantization_config": transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=spec.quantize,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=DTYPES[spec.precision],
        ),
        **placed,
    }


def _held_as(folder: Path) -> str:
    try:
        return held_as(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return ""  # whoever loads the folder says what is wrong with the file


def is_quantized(model: Any) -> bool:
    """Whether transformers loaded the model's weights in a quantised form."""
    return getattr(model, "hf_quantizer", None) is not None


def settle(model: Any, spec: LlamaModel) -> None:
    """Make a model that was just loaded ready to run, where its matrices are bitsandbytes' 4-bit ones.

    Raises ModelError where bitsandbytes does not multiply by matrices of the model's widths as it should.
    """
    matrices = [part for part in model.modules() if hasattr(part, "support_avx512bf16_for_cpu")]
    for part in matrices:
        _keep_unpacked(part)
    for width in sorted({part.in_features for part in matrices}):
        device = next(part.weight.device for part in matrices if part.in_features == width)
        wrong = _error(device, DTYPES[spec.precision], width)
        if not wrong <= MOST_OFF:
            raise ModelError(
                f"bitsandbytes {version('bitsandbytes')} does not read 4-bit weights of LLaMA "
                f"'{spec.weights}' right on {device}: in rows of {width} inputs a weight is off by up to "
                f"{wrong:.0%} of its block's largest, where rounding gives 15%",
                _REMEDY,
            )


def _keep_unpacked(part: Any) -> None:
    """Keep bitsandbytes from repacking weights in the first pass without gradient on CPUs with AVX512-BF16.

    Its packed products compute in bf16 whatever `precision` says, and give a latent prefix no gradient afterwards.
    """
    part.support_avx512bf16_for_cpu = False


def _runs_on(device: torch.device, dtype: torch.dtype) -> None:
    """Raise ModelError where 4-bit products fail: the package may be there and its kernels not."""
    try:
        _error(device, dtype, 64)
    except Exception as error:  # kernels that are missing raise what they like
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"bitsandbytes {version('bitsandbytes')} cannot multiply 4-bit weights on {device}: {reason}", _REMEDY
        ) from error


@torch.no_grad()
def _error(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """Return the largest error of a weight that a product shows, as a share of its block's largest weight.

    It multiplies by a matrix [64, width] as layers do; 512 columns of it at most are looked at.
    """
    import bitsandbytes

    weights = torch.randn(64, width, generator=torch.Generator().manual_seed(width))
    layer = bitsandbytes.nn.Linear4bit(width, 64, bias=False, compute_dtype=dtype, quant_type="nf4")
    layer.weight.data.copy_(weights)
    _keep_unpacked(layer.to(device))
    columns = torch.arange(0, width, -(-width // 512))
    shown = layer(torch.eye(width, dtype=dtype)[columns].to(device)).float().cpu()
    largest = weights.view(-1, 64).abs().amax(dim=1).repeat_interleave(64).view(64, width)
    wrong: Tensor = (shown - weights[:, columns].T).abs() / largest[:, columns].T
    return float(wrong.max())
