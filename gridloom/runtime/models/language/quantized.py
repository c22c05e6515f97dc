"""4-bit weights of a language model's layers, by transformers and bitsandbytes.

NF4 (arXiv 2305.14314): a matrix is divided into blocks of 64 weights; a weight is one of 16 levels, spaced as the
quantiles of a normal distribution, times the largest magnitude in its block. These magnitudes are stored in 8 bits, in
blocks of 256 with an fp32 scale each: 4.127 bits per weight in total. A product first dequantises a matrix to
`precision`. Embeddings, norms and the output head have `precision`.
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
from gridloom.runtime.models.language.weights.folders import CONFIG, quantization_method
from gridloom.wording import first_line

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MOST_OFF = 0.2
"""Largest accepted error of a weight as a share of its block's largest magnitude.

Rounding gives half of the widest gap between levels, 0.152, plus rounding of bf16 and of scales. Larger errors occur
with bitsandbytes 0.50.2 on a CPU, for rows whose length is a multiple of 16 but not of 64.
"""
_REMEDY = "set  quantize: none  , or run on a device that this bitsandbytes supports"


def loading_options(spec: LlamaModel, folder: Path, device: str | torch.device) -> dict[str, Any]:
    """Return the keyword arguments of `from_pretrained` for `spec.quantize`.

    Raises:
        GridloomError: a package is missing; names the extra to install.
        ModelError: bitsandbytes does not run on the device, or the folder's weights are quantised already.
    """
    # load onto the device directly: quantised weights cannot be moved
    placed = {"device_map": {"": str(device)}}
    method = _quantization_method(folder)
    if spec.quantize == "none":
        return placed if method else {}
    if method:
        raise ModelError(
            f"the weights of LLaMA '{spec.weights}' in {folder} are quantised already ({method}), and the "
            f"spec sets quantize: {spec.quantize}",
            "set  quantize: none  , or name unquantised weights",
        )
    what_for = f"a language model with  quantize: {spec.quantize}"
    with needed("bitsandbytes", "quant", what_for):
        import bitsandbytes  # noqa: F401  an absent package is distinguished from a failing one
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


def _quantization_method(folder: Path) -> str:
    try:
        return quantization_method(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return ""  # loading the folder reports the error of the file


def is_quantized(model: Any) -> bool:
    """Return whether transformers loaded the model's weights in quantised form."""
    return getattr(model, "hf_quantizer", None) is not None


def prepare_model(model: Any, spec: LlamaModel) -> None:
    """Prepare a newly loaded model with bitsandbytes 4-bit matrices, if it has any, to run.

    Raises ModelError if bitsandbytes multiplies wrongly by matrices of the model's widths.
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
    """Prevent bitsandbytes from repacking weights in the first pass without gradient on CPUs with AVX512-BF16.

    Packed products compute in bf16 for every `precision`, and later return no gradient for a latent prefix.
    """
    part.support_avx512bf16_for_cpu = False


def _runs_on(device: torch.device, dtype: torch.dtype) -> None:
    """Raise ModelError if 4-bit products fail: an installed package may lack kernels for the device."""
    try:
        _error(device, dtype, 64)
    except Exception as error:  # missing kernels raise exceptions of any type
        raise ModelError(
            f"bitsandbytes {version('bitsandbytes')} cannot multiply 4-bit weights on {device}: {first_line(error)}",
            _REMEDY,
        ) from error


@torch.no_grad()
def _error(device: torch.device, dtype: torch.dtype, width: int) -> float:
    """Return the largest error of a weight in a product, as a share of its block's largest magnitude.

    Multiplies by a 4-bit matrix [64, width] as layers do, and compares at most 512 of its columns.
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
