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


def global_pooling(kind, dims):
    def layer(net, fields, inputs, training, block):
        over, keep = tuple(range(2, 2 + dims)), fields.get("keep_dims", False)
        return inputs[0].amax(over, keep) if kind == "max" else inputs[0].mean(over, keep)
    return layer


def lowest(dims):
    def layer(net, fields, inputs, training, block):
        return -pooling("max", dims)(net, fields, [-inputs[0]], training, block)
    return layer


for dims in (1, 2, 3):
    for kind in ("max", "avg"):
        LAYERS[f"global_{kind}_pool{dims}d"] = global_pooling(kind, dims)
    LAYERS[f"min_pool{dims}d"] = lowest(dims)


@layer
def adaptive_avg_pool2d(net, fields, inputs, training, block):
    return F.adaptive_avg_pool2d(inputs[0], each(fields["size"], 2))


def broadcast(how):
    def layer(net, fields, inputs, training, block):
        dims = max(x.dim() for x in inputs)
        inputs = [x.reshape(*x.shape, *[1] * (dims - x.dim())) for x in inputs]
        result = inputs[0]
        for other in inputs[1:]:
            result = result + other if how == "add" else result * other
        return result
    return layer


LAYERS["add"], LAYERS["multiply"] = broadcast("add"), broadcast("multiply")
FUNCTIONS = {"silu": F.silu, "relu6": F.relu6, "hard_swish": F.hardswish}


def own_activation(net, fields, inputs, training, block):
    function = FUNCTIONS.get(fields["function"])
    return function(inputs[0]) if function else activate(inputs[0], fields["function"], fields.get("alpha"))


LAYERS["activation"] = own_activation


@layer
def conv2d_transpose(net, fields, inputs, training, block):
    x, = inputs
    groups = fields.get("groups", 1)
    size, stride, dilation = (each(fields.get(f, 1), 2) for f in ("kernel", "stride", "dilation"))
    more = each(fields.get("output_padding", 0), 2)
    kernel = net.parameter(x.shape[1], fields["filters"] // groups, *size)
    bias = net.parameter(fields["filters"]) if fields.get("use_bias", True) else None
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation)]
    if fields.get("padding") == "same":
        pads = sides(fields, [n * s for n, s in zip(x.shape[2:], stride)], reach, stride)
        more = [n * s - ((n - 1) * s + r - sum(p)) for n, s, r, p in zip(x.shape[2:], stride, reach, pads)]
    else:
        pads = sides(fields, x.shape[2:], reach, stride)
    # Uncropped, then cropped: PyTorch crops as much on both sides.
    whole = [max(m - after, 0) for m, (_, after) in zip(more, pads)]
    y = F.conv_transpose2d(x, kernel, None, stride, 0, whole, groups, dilation)
    size = [(n - 1) * s + r - sum(p) + m for n, s, r, p, m in zip(x.shape[2:], stride, reach, pads, more)]
    (top, _), (left, _) = pads
    y = y[:, :, top:top + size[0], left:left + size[1]]
    if bias is not None:
        y = y + bias[:, None, None]
    if all(before == after for before, after in pads):
        own = F.conv_transpose2d(x, kernel, bias, stride, [p for p, _ in pads], more, groups, dilation)
        assert torch.allclose(own, y), "cropping"
    return activate(y, fields.get("activation", "linear"))


def framing(dims, crop):
    def layer(net, fields, inputs, training, block):
        given = each(fields["cropping" if crop else "padding"], dims)
        pads = [[p, p] if isinstance(p, int) else p for p in given]
        return padded(inputs[0], [[-n for n in pair] if crop else pair for pair in pads])
    return layer


def upsampling(dims):
    def layer(net, fields, inputs, training, block):
        factors = each(fields.get("size", 2), dims)
        size = [n * f for n, f in zip(inputs[0].shape[2:], factors)]
        mode = fields.get("interpolation", "nearest")
        return F.interpolate(inputs[0], size, mode=mode, **({} if mode == "nearest" else {"align_corners": False}))
    return layer


for dims in (1, 2, 3):
    LAYERS[f"zero_padding{dims}d"], LAYERS[f"cropping{dims}d"] = framing(dims, False), framing(dims, True)
    LAYERS[f"upsampling{dims}d"] = upsampling(dims)


@layer
def resize2d(net, fields, inputs, training, block):
    mode = fields.get("interpolation", "bilinear")
    return F.interpolate(inputs[0], each(fields["size"], 2), mode=mode,
                         **({} if mode == "nearest" else {"align_corners": False}))


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
        flat = {"global_avg_pool2d": {}} if height * width > 200 else FLATTEN
        for samples in (1, 3):
            yield case(f"conv2d, {name}, {samples} samples", [channels, height, width], [
                conv(channels, 1), {"conv2d": fields}, activation("tanh"), flat, dense(3)],
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


def merging():
    for how in ("add", "multiply"):
        for keep in (False, True):
            for order in (["a", "s"], ["s", "a"], ["a", "s", "a", "t"], ["s", "t", "a"]):
                yield case(f"{how} of {' '.join(order)}, {'[channels, 1, 1]' if keep else '[channels]'}", [2, 3, 5], [
                    named(conv(4, 1), "a"), named({"global_avg_pool2d": {"keep_dims": keep}}, "pooled"),
                    named(activation("sigmoid"), "s"),
                    *([of(named(dense(4), "t"), "pooled")] if not keep else [of(named(conv(4, 1), "t"), "pooled")]),
                    of(named({how: {}}, "m"), *order), of({"add": {}}, "m", "t"), FLATTEN, dense(3)], samples=3)
    yield case("squeeze and excitation", [3, 6, 7], [
        conv(6, 3, padding=1, activation="relu"),
        {"branches": {"merge": "multiply", "paths": [[], [
            {"global_avg_pool2d": {"keep_dims": True}}, conv(2, 1), activation("silu"), conv(6, 1),
            activation("sigmoid")]]}},
        conv(2, 1), FLATTEN, dense(3)], "cross_entropy", samples=3)
    yield case("multiply of images of one pixel", [3, 1, 1], [
        named(conv(4, 1), "x"), named({"global_avg_pool2d": {}}, "pooled"), named(dense(4, activation="sigmoid"), "s"),
        of({"multiply": {}}, "s", "x"), FLATTEN, dense(3)], samples=3)
    yield case("multiply of a sequence and a value a channel", [30], [
        named({"reshape": {"shape": [5, 6]}}, "x"), named({"conv1d": {"filters": 5, "kernel": 1}}, "y"),
        named({"global_max_pool1d": {}}, "m"), of({"multiply": {}}, "y", "m"), FLATTEN, dense(3)], samples=4)
    for name, function in [("silu", "silu"), ("relu6", "relu6"), ("hard_swish", "hard_swish")]:
        yield case(name, [4], [dense(40), activation(function), dense(3)], samples=6, scale=3.0)
    for kind in ("max", "avg"):
        for keep in (False, True):
            yield case(f"global {kind} pool of a sequence, {keep}", [18], [
                {"reshape": {"shape": [2, 9]}}, {"conv1d": {"filters": 4, "kernel": 2}}, activation("tanh"),
                {f"global_{kind}_pool1d": {"keep_dims": keep}}, FLATTEN, dense(3)], samples=4)
            yield case(f"global {kind} pool of a volume, {keep}", [36], [
                dense(72, activation="tanh"), {"reshape": {"shape": [2, 3, 4, 3]}},
                {f"global_{kind}_pool3d": {"keep_dims": keep}}, FLATTEN, dense(3)], samples=4, scale=0.2)
            yield case(f"global {kind} pool of an image, {keep}", [2, 5, 7], [
                conv(4, 3, activation="tanh"), {f"global_{kind}_pool2d": {"keep_dims": keep}}, FLATTEN, dense(3)])
    for name, height, width, fields in pools():
        yield case(f"min_pool2d, {name}", [2, height, width], [
            conv(2, 1), {"min_pool2d": fields}, activation("tanh"), FLATTEN, dense(3)], samples=3)
    yield case("min_pool1d", [20], [
        {"reshape": {"shape": [2, 10]}}, {"conv1d": {"filters": 2, "kernel": 1}},
        {"min_pool1d": {"size": 3, "stride": 2, "padding": 1}}, FLATTEN, dense(3)], samples=4)
    for size, height, width in [([6, 6], 13, 7), ([7, 7], 2, 1), (1, 5, 6), ([3, 1], 3, 4), (2, 2, 2), ([2, 9], 7, 4)]:
        yield case(f"adaptive_avg_pool2d, {size} of {height} x {width}", [2, height, width], [
            conv(2, 1), {"adaptive_avg_pool2d": {"size": size}}, activation("tanh"), FLATTEN, dense(3)], samples=3)


def growing():
    for name, height, width, fields in [
            ("plain", 3, 4, dict(filters=3, kernel=3)), ("one tap", 3, 4, dict(filters=3, kernel=1)),
            ("stride", 3, 4, dict(filters=3, kernel=4, stride=2, padding=1)),
            ("output padding", 3, 4, dict(filters=3, kernel=3, stride=2, padding=1, output_padding=1)),
            ("strides", 3, 4, dict(filters=4, kernel=[2, 5], stride=[2, 3], padding=[0, 2], output_padding=[1, 2])),
            ("sides", 3, 4, dict(filters=3, kernel=4, stride=2, padding=[[0, 1], [2, 1]])),
            ("same", 3, 5, dict(filters=3, kernel=3, stride=2, padding="same")),
            ("same, even", 3, 5, dict(filters=3, kernel=4, stride=2, padding="same", activation="relu")),
            ("same, stride above kernel", 3, 2, dict(filters=3, kernel=2, stride=3, padding="same")),
            ("kernel below stride", 3, 2, dict(filters=3, kernel=1, stride=2, use_bias=False)),
            ("dilation", 3, 4, dict(filters=3, kernel=3, dilation=2, stride=2, padding=1)),
            ("groups", 3, 4, dict(filters=6, kernel=3, groups=2, stride=2, padding=1, activation="tanh")),
            ("of one pixel", 1, 1, dict(filters=5, kernel=4, use_bias=False))]:
        for samples in (1, 6):
            yield case(f"conv2d_transpose, {name}, {samples} samples", [4, height, width], [
                conv(4, 1), {"conv2d_transpose": fields}, activation("tanh"), FLATTEN, dense(3)],
                samples=samples)
    yield case("conv2d_transpose first", [2, 3, 3], [
        {"conv2d_transpose": {"filters": 3, "kernel": 2, "stride": 2}}, FLATTEN, dense(3)], samples=3)
    yield case("a generator", [6], [
        {"reshape": {"shape": [6, 1, 1]}}, {"conv2d_transpose": {"filters": 4, "kernel": 4, "use_bias": False}}, norm(),
        activation("relu"), {"conv2d_transpose": {"filters": 2, "kernel": 4, "stride": 2, "padding": 1}},
        activation("tanh"), FLATTEN, dense(3)], samples=5)
    for name, layers in [
            ("upsampling2d", [{"upsampling2d": {}}]), ("upsampling2d, two factors", [{"upsampling2d": {"size": [3, 1]}}]),
            ("upsampling2d, bilinear", [{"upsampling2d": {"interpolation": "bilinear"}}]),
            ("upsampling2d, bilinear, factors", [{"upsampling2d": {"size": [1, 5], "interpolation": "bilinear"}}]),
            ("resize2d", [{"resize2d": {"size": [7, 3]}}]), ("resize2d, smaller", [{"resize2d": {"size": 2}}]),
            ("resize2d, nearest", [{"resize2d": {"size": [5, 9], "interpolation": "nearest"}}]),
            ("resize2d, nothing to do", [{"resize2d": {"size": [3, 4]}}]),
            ("zero_padding2d", [{"zero_padding2d": {"padding": 2}}]),
            ("zero_padding2d, dimensions", [{"zero_padding2d": {"padding": [0, 3]}}]),
            ("zero_padding2d, sides", [{"zero_padding2d": {"padding": [[1, 0], [0, 2]]}}]),
            ("cropping2d", [{"cropping2d": {"cropping": 1}}]),
            ("cropping2d, sides", [{"cropping2d": {"cropping": [[1, 0], [0, 2]]}}]),
            ("padding after cropping", [{"cropping2d": {"cropping": [[0, 2], [1, 1]]}}, {"zero_padding2d": {"padding": 1}}])]:
        yield case(name, [2, 3, 4], [conv(3, 1), *layers, conv(2, 1), activation("tanh"), FLATTEN, dense(3)], samples=3)
    for name, layers in [("upsampling1d", [{"upsampling1d": {"size": 3}}]), ("zero_padding1d", [{"zero_padding1d": {"padding": [[1, 2]]}}]),
                         ("cropping1d", [{"cropping1d": {"cropping": [[2, 1]]}}])]:
        yield case(name, [10], [{"reshape": {"shape": [2, 5]}}, {"conv1d": {"filters": 3, "kernel": 1}}, *layers,
                                activation("tanh"), FLATTEN, dense(3)], samples=3)
    for name, layers in [("upsampling3d", [{"upsampling3d": {"size": [2, 1, 3]}}]),
                         ("zero_padding3d", [{"zero_padding3d": {"padding": [[1, 0], [0, 1], [2, 1]]}}]),
                         ("cropping3d", [{"cropping3d": {"cropping": [0, 1, 1]}}])]:
        yield case(name, [24], [dense(48, activation="tanh"), {"reshape": {"shape": [2, 2, 3, 4]}}, *layers, FLATTEN, dense(3)],
                   samples=3, scale=0.2)
    yield case("a u of images that grows again", [1, 8, 8], [
        named(conv(3, 3, padding=1, activation="relu"), "high"), pool("max", 2), conv(4, 3, padding=1, activation="relu"),
        named({"conv2d_transpose": {"filters": 3, "kernel": 2, "stride": 2}}, "up"), of({"concat": {}}, "up", "high"),
        conv(2, 3, padding=1), FLATTEN, dense(3)], "cross_entropy", samples=3)


def volumes():
    def volume(name, layers, samples=3, shape=(2, 4, 5, 6)):
        return case(name, list(shape), [*layers, activation("tanh"), FLATTEN, dense(3)], samples=samples, scale=0.3)
    one = {"conv3d": {"filters": 2, "kernel": 1}}
    for name, fields in [
            ("valid", dict(kernel=3)), ("same, stride", dict(kernel=[2, 3, 3], stride=[2, 1, 2], padding="same")),
            ("padding", dict(kernel=3, padding=[1, 0, 2], activation="relu")),
            ("sides", dict(kernel=2, padding=[[1, 0], [0, 2], [1, 1]], use_bias=False)),
            ("dilation", dict(kernel=[2, 2, 3], dilation=[2, 3, 1], padding=1)),
            ("groups", dict(kernel=2, groups=2, stride=[1, 2, 1])), ("one tap", dict(kernel=1, stride=2))]:
        for samples in (1, 5):
            yield volume(f"conv3d, {name}, {samples} samples", [one, {"conv3d": {"filters": 4, **fields}}], samples)
    yield case("conv3d first, of large planes", [1, 3, 24, 25], [
        {"conv3d": {"filters": 3, "kernel": 3, "padding": 1}}, {"max_pool3d": {"size": [1, 2, 2]}},
        {"global_avg_pool3d": {}}, dense(3)], samples=3)
    for kind in ("max", "avg", "min"):
        for name, fields in [("plain", {}), ("stride", dict(size=3, stride=[1, 2, 2])),
                             ("padding", dict(size=3, stride=2, padding=1)), ("same", dict(size=[2, 3, 2], padding="same")),
                             ("ceil", dict(size=[3, 2, 4], stride=[2, 3, 3], ceil=True))]:
            yield volume(f"{kind}_pool3d, {name}", [one, {f"{kind}_pool3d": fields}])
    yield volume("avg_pool3d, padding counted", [
        one, {"avg_pool3d": {"size": 3, "stride": 2, "padding": 1, "count_padding": True}}])


def cases():
    yield from moving()
    yield from growing()
    yield from merging()
    yield from volumes()


def short(value):
    """Nine digits are more than float32 keeps."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, list):
        return [short(v) for v in value]
    return {k: short(v) for k, v in value.items()} if isinstance(value, dict) else value


def main():
    lines = [json.dumps(short(c), separators=(",", ":")) for c in cases()]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
