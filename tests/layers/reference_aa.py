"""Attention-augmented convolution in float64 with a loop over positions; parameters by the layer's names.

Bello et al. 2019, eqs. 1-5: one query position, one head and one key position at a time.
"""

from __future__ import annotations

import math

import torch


def convolve(x, weight, bias, stride, padding, dilation, groups=1):
    """Cross-correlation by its definition: one output position at a time."""
    n, channels, height, width = x.shape
    out_channels, per_group, kernel_h, kernel_w = weight.shape
    padded = x.new_zeros(n, channels, height + 2 * padding[0], width + 2 * padding[1])
    padded[:, :, padding[0] : padding[0] + height, padding[1] : padding[1] + width] = x
    span = [dilation[0] * (kernel_h - 1) + 1, dilation[1] * (kernel_w - 1) + 1]
    rows = range(0, padded.shape[2] - span[0] + 1, stride[0])
    columns = range(0, padded.shape[3] - span[1] + 1, stride[1])
    share = out_channels // groups
    maps = []
    for g in range(groups):
        own = padded[:, g * per_group : (g + 1) * per_group]
        kernel = weight[g * share : (g + 1) * share].flatten(1)
        lines = []
        for top in rows:
            line = []
            for left in columns:
                patch = own[:, :, top : top + span[0] : dilation[0], left : left + span[1] : dilation[1]]
                line.append(patch.flatten(1) @ kernel.T)
            lines.append(torch.stack(line, -1))
        maps.append(torch.stack(lines, -2))
    out = torch.cat(maps, 1)
    return out if bias is None else out + bias[:, None, None]


def aa_conv(
    x, params, heads, dk, dv, kernel, qkv_kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1
):
    """The output and the attention weights ``{(sample, head, query, key): weight}``."""
    conv = convolve(x, params["conv.weight"], params.get("conv.bias"), stride, padding, dilation, groups)
    same = [p - d * (k - own) // 2 for p, d, k, own in zip(padding, dilation, kernel, qkv_kernel)]
    qkv = convolve(x, params["qkv.weight"], params.get("qkv.bias"), stride, same, dilation)
    n, _, height, width = qkv.shape
    positions = [(row, column) for row in range(height) for column in range(width)]
    dk_head, dv_head = dk // heads, dv // heads
    weights, samples = {}, []
    for b in range(n):
        columns = {}
        for h in range(heads):
            q = qkv[b, h * dk_head : (h + 1) * dk_head]
            k = qkv[b, dk + h * dk_head : dk + (h + 1) * dk_head]
            v = qkv[b, 2 * dk + h * dv_head : 2 * dk + (h + 1) * dv_head]
            for iy, ix in positions:
                logits = []
                for jy, jx in positions:
                    key = k[:, jy, jx]
                    if "relative_width" in params:
                        key = key + params["relative_width"][jx - ix + width - 1]
                        key = key + params["relative_height"][jy - iy + height - 1]
                    logits.append((q[:, iy, ix] * key).sum() / math.sqrt(dk_head))
                exponentials = torch.stack(logits).exp()
                attention = exponentials / exponentials.sum()
                weights[b, h, iy, ix] = attention
                columns[h, iy, ix] = sum(a * v[:, jy, jx] for a, (jy, jx) in zip(attention, positions))
        mixed = []
        for iy, ix in positions:
            all_heads = torch.cat([columns[h, iy, ix] for h in range(heads)])
            mixed.append(params["out.weight"][:, :, 0, 0] @ all_heads)
        samples.append(torch.stack(mixed, -1).unflatten(1, (height, width)))
    return torch.cat((conv, torch.stack(samples)), 1), weights
