#!/usr/bin/env python3
"""Writes images.json: as graphs.json, for all that moves over images, sequences and volumes.

    python make_images.py > images.json        # PyTorch 2.15, CPU
"""

import json
import math
import sys

import torch
import torch.nn.functional as F

from make_graphs import FLATTEN, LAYERS, case, layer, named, of
from make_reference import activate, activation, dense, norm

torch.manual_seed(23)

CONVOLUTIONS = [F.conv1d, F.conv2d, F.conv3d]
MAXIMA = [F.max_pool1d, F.max_pool2d, F.max_pool3d]
MEANS = [F.avg_pool1d, F.avg_pool2d, F.avg_pool3d]


def each(value, dims):
    return [value] * dims if isinstance(value, int) else list(value)


def sides(fields, size, reach, stride):
    """[before, after] of each dimension. Same: as TensorFlow, the odd one at the end."""
    padding = fields.get("padding", "valid")
    if padding == "valid":
        return [[0, 0]] * len(size)
    if padding == "same":
        totals = [max((math.ceil(n / s) - 1) * s + r - n, 0) for n, r, s in zip(size, reach, stride)]
        return [[total // 2, total - total // 2] for total in totals]
    return [[p, p] if isinstance(p, int) else p for p in each(padding, len(size))]


def padded(x, pads, value=0.0):
    return F.pad(x, [n for pair in reversed(pads) for n in pair], value=value)


def convolution(dims):
    def layer(net, fields, inputs, training, block):
        x, = inputs
        groups = fields.get("groups", 1)
        size, stride, dilation = (each(fields.get(f, 1), dims) for f in ("kernel", "stride", "dilation"))
        kernel = net.parameter(fields["filters"], x.shape[1] // groups, *size)
        bias = net.parameter(fields["filters"]) if fields.get("use_bias", True) else None
        reach = [(k - 1) * d + 1 for k, d in zip(size, dilation)]
        x = padded(x, sides(fields, x.shape[2:], reach, stride))
        y = CONVOLUTIONS[dims - 1](x, kernel, bias, stride, 0, dilation, groups)
        return activate(y, fields.get("activation", "linear"))
    return layer


def pooling(kind, dims):
    def layer(net, fields, inputs, training, block):
        x, = inputs
        size = each(fields.get("size", 2), dims)
        stride = each(fields.get("stride", size), dims)
        pads, ceil = sides(fields, x.shape[2:], size, stride), fields.get("ceil", False)
        symmetric = all(before == after <= k // 2 for (before, after), k in zip(pads, size))
        if kind == "max":
            if symmetric:
                return MAXIMA[dims - 1](x, size, stride, [p for p, _ in pads], ceil_mode=ceil)
            return MAXIMA[dims - 1](padded(x, pads, -math.inf), size, stride, ceil_mode=ceil)
        mean, counted = MEANS[dims - 1], fields.get("count_padding", False)
        if symmetric:
            return mean(x, size, stride, [p for p, _ in pads], ceil, counted)
        assert not ceil
        whole = mean(padded(x, pads), size, stride)
        return whole if counted else whole / mean(padded(torch.ones_like(x), pads), size, stride)
    return layer


for dims in (1, 2, 3):
    LAYERS[f"conv{dims}d"] = convolution(dims)
    for kind in ("max", "avg"):
        LAYERS[f"{kind}_pool{dims}d"] = pooling(kind, dims)


def conv(filters, kernel, **more):
    return {"conv2d": {"filters": filters, "kernel": kernel, **more}}


def pool(kind, size, **more):
    return {f"{kind}_pool2d": {"size": size, **more}}


def convolutions():
    """(name, channels, height, width, fields)"""
    yield "padding by a number", 2, 6, 7, dict(filters=3, kernel=3, padding=1)
    yield "padding wide as the kernel", 2, 5, 5, dict(filters=3, kernel=3, padding=3)
    yield "padding for each dimension", 2, 6, 7, dict(filters=3, kernel=[3, 5], padding=[1, 3], activation="relu")
    yield "padding for each side", 2, 6, 7, dict(filters=3, kernel=[2, 3], padding=[[0, 2], [3, 1]])
    yield "padding and stride", 3, 17, 16, dict(filters=4, kernel=7, stride=2, padding=3, use_bias=False)
    yield "padding and strides", 2, 9, 8, dict(filters=4, kernel=[3, 1], stride=[2, 3], padding=[1, 0])
    yield "padding without a kernel's reach", 2, 5, 5, dict(filters=3, kernel=1, padding=1)
    yield "padding of a wide image", 3, 12, 20, dict(filters=5, kernel=3, padding=[[1, 1], [2, 0]], activation="relu")
    yield "rectangles", 2, 7, 9, dict(filters=3, kernel=[1, 7], padding=[0, 3])
    yield "dilation", 2, 9, 9, dict(filters=3, kernel=3, dilation=2)
    yield "dilation, same", 2, 7, 8, dict(filters=3, kernel=3, dilation=[2, 3], padding="same")
    yield "dilation, same, stride", 2, 9, 8, dict(filters=3, kernel=[3, 2], dilation=2, stride=[2, 3], padding="same")
    yield "dilation, padding", 2, 6, 6, dict(filters=3, kernel=3, dilation=2, padding=2, activation="relu")
    yield "two groups", 4, 6, 5, dict(filters=6, kernel=3, groups=2, padding=1, activation="relu")
    yield "three groups, stride, dilation", 6, 9, 8, dict(filters=3, kernel=3, groups=3, stride=2, dilation=2, padding=2)
    yield "two groups without bias", 4, 5, 5, dict(filters=2, kernel=2, groups=2, use_bias=False, padding="same")
    for name, more in [("", {}), (", same", dict(padding="same")), (", padding", dict(padding=1)),
                       (", sides", dict(padding=[[2, 0], [0, 1]])), (", relu", dict(activation="relu", padding=1)),
                       (", no bias", dict(use_bias=False)), (", stride", dict(stride=2, padding=1)),
                       (", strides, same", dict(stride=[3, 2], padding="same")), (", dilation", dict(dilation=2, padding=2)),
                       (", dilation and stride", dict(dilation=[2, 3], stride=2, padding=[1, 2])),
                       (", stride above the kernel", dict(kernel=2, stride=3)), (", one tap", dict(kernel=1, stride=2)),
                       (", rectangle", dict(kernel=[5, 2], padding=[2, 1])),
                       (", far dilation", dict(dilation=40, padding=40))]:
        yield "depthwise" + name, 3, 8, 9, {**dict(filters=3, kernel=3, groups=3), **more}
    yield "depthwise with a multiplier", 3, 9, 7, dict(filters=6, kernel=3, groups=3, padding=1, stride=2)
    yield "depthwise over large planes", 5, 19, 23, dict(filters=5, kernel=5, groups=5, padding=2, activation="relu")


def pools():
    """(name, height, width, fields)"""
    yield "padding", 7, 8, dict(size=3, stride=2, padding=1)
    yield "padding for each dimension", 6, 7, dict(size=[2, 3], stride=1, padding=[1, 0])
    yield "padding for each side", 6, 7, dict(size=3, stride=2, padding=[[2, 0], [0, 1]])
    yield "same", 5, 7, dict(size=3, stride=2, padding="same")
    yield "ceil", 6, 8, dict(size=3, stride=2, ceil=True)
    yield "ceil and padding", 6, 5, dict(size=3, stride=2, padding=1, ceil=True)
    yield "ceil of a small image", 2, 5, dict(size=3, stride=3, ceil=True)
    yield "ceil, windows apart", 6, 7, dict(size=2, stride=3, ceil=True)
    yield "rectangles", 7, 6, dict(size=[3, 2], stride=[1, 2])


def moving():
    for name, channels, height, width, fields in convolutions():
        for samples in (1, 3):
            yield case(f"conv2d, {name}, {samples} samples", [channels, height, width], [
                conv(channels, 1), {"conv2d": fields}, activation("tanh"), FLATTEN, dense(3)], "cross_entropy",
                samples=samples)
    for name, height, width, fields in pools():
        for kind in ("max", "avg"):
            yield case(f"{kind}_pool2d, {name}", [2, height, width], [
                conv(2, 1), {f"{kind}_pool2d": fields}, activation("tanh"), FLATTEN, dense(3)], samples=3)
        if fields.get("padding", 0):
            yield case(f"avg_pool2d, padding counted, {name}", [2, height, width], [
                conv(2, 1), {"avg_pool2d": {**fields, "count_padding": True}}, FLATTEN, dense(3)], samples=3)
    for name, fields in [("padding", dict(padding=2)), ("sides", dict(padding=[[3, 1]], stride=2)),
                         ("dilation", dict(dilation=3)), ("dilation, same", dict(dilation=2, padding="same")),
                         ("groups", dict(groups=2, padding=[1])), ("depthwise", dict(groups=4, padding=1, stride=2)),
                         ("depthwise, dilation", dict(groups=4, dilation=2, padding=2, activation="relu"))]:
        yield case(f"conv1d, {name}", [48], [
            {"reshape": {"shape": [4, 12]}}, {"conv1d": {"filters": 4, "kernel": 1}},
            {"conv1d": {"filters": 4, "kernel": 3, **fields}}, activation("tanh"), FLATTEN, dense(3)], samples=4)
    for kind in ("max", "avg"):
        for name, fields in [("padding", dict(padding=1)), ("ceil", dict(stride=2, ceil=True)),
                             ("sides", dict(padding=[[2, 0]], stride=2))] + [
                                 ("padding counted", dict(padding=1, count_padding=True))] * (kind == "avg"):
            yield case(f"{kind}_pool1d, {name}", [20], [
                {"reshape": {"shape": [2, 10]}}, {"conv1d": {"filters": 2, "kernel": 1}},
                {f"{kind}_pool1d": {"size": 3, **fields}}, FLATTEN, dense(3)], samples=4)
    yield case("a block of a mobile network", [3, 9, 9], [
        conv(4, 3, stride=2, padding=1, use_bias=False), norm(), activation("relu"),
        {"residual": {"body": [
            conv(8, 1, use_bias=False), norm(), activation("relu"),
            conv(8, 3, groups=8, padding=1, use_bias=False), norm(), activation("relu"),
            conv(4, 1, use_bias=False), norm()]}},
        FLATTEN, dense(3)], "cross_entropy", samples=4)


def cases():
    yield from moving()


def main():
    lines = [json.dumps(c, separators=(",", ":")) for c in cases()]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
