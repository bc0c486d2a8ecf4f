"""Which precision a device is fastest in; for what need not be exact."""

import torch


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 if the device's hardware multiplies it, float32 otherwise."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities()
    if device.type == "cpu" and (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")):
        return torch.bfloat16
    return torch.float32
