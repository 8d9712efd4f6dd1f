#!/usr/bin/env python3
"""Writes graphs.json: as layers.json, for networks that are no chains and for layers that came later.

    python make_graphs.py > graphs.json        # PyTorch 2.15, CPU

A layer is a function in LAYERS: (network, fields, inputs, training) -> output. It asks the network for its parameters,
and for running statistics, in the order in which the layer of the same word makes them.
"""

import json
import sys

import torch
import torch.nn.functional as F

from make_reference import (activate, activation, conv, dense, draw, fold, loss_of, norm, numbers, one_hot, pair, pool,
                            same_pads)

torch.manual_seed(21)
LAYERS = {}


def layer(function):
    LAYERS[function.__name__] = function
    return function


class Net:
    def __init__(self, layers, shape, scale):
        self.layers, self.scale = layers, scale
        self.parameters, self.running, self.batch = [], [], []
        self.making = True
        with torch.no_grad():
            self(torch.zeros(2, *shape), True)
        self.parameters = [p.requires_grad_() for p in self.parameters]
        self.making = False

    def __call__(self, x, training, layers=None):
        self.next, self.statistic, self.batch = 0, 0, []
        return self.list(layers or self.layers, x, [], training)

    def parameter(self, *shape, around=0.0, scale=None):
        if self.making:
            self.parameters.append(around + draw(*shape, scale=self.scale if scale is None else scale))
        self.next += 1
        return self.parameters[self.next - 1]

    def moments(self, channels):
        """Running mean and variance, and their momentum."""
        if self.making:
            self.running.append([draw(channels, scale=0.2), 1 + draw(channels, scale=0.2).abs()])
        self.statistic += 1
        return self.running[self.statistic - 1]

    def list(self, layers, x, scopes, training):
        names = {"input": x}
        scopes = scopes + [names]
        for entry in layers:
            (word, fields), = entry.items()
            sources = fields.get("from", [])
            sources = [sources] if isinstance(sources, str) else sources
            inputs = [next(s[name] for s in reversed(scopes) if name in s) for name in sources] or [x]
            x = LAYERS[word](self, fields, inputs, training, lambda layers, x: self.list(layers, x, scopes, training))
            if "name" in fields:
                names[fields["name"]] = x
        return x


def dense_layer(net, fields, inputs, training, block):
    x, = inputs
    kernel = net.parameter(x.shape[-1], fields["units"])
    y = x @ kernel
    if fields.get("use_bias", True):
        y = y + net.parameter(fields["units"])
    return activate(y, fields.get("activation", "linear"))



LAYERS["dense"] = dense_layer


@layer
def conv2d(net, fields, inputs, training, block):
    x, = inputs
    kernel = net.parameter(fields["filters"], x.shape[1], *pair(fields["kernel"]))
    bias = net.parameter(fields["filters"]) if fields.get("use_bias", True) else None
    stride = pair(fields.get("stride", 1))
    if fields.get("padding") == "same":
        x = F.pad(x, same_pads(x.shape[2:], kernel.shape[2:], stride))
    return activate(F.conv2d(x, kernel, bias, stride), fields.get("activation", "linear"))


@layer
def max_pool2d(net, fields, inputs, training, block):
    size = pair(fields.get("size", 2))
    return F.max_pool2d(inputs[0], size, pair(fields.get("stride", size)))


@layer
def conv1d(net, fields, inputs, training, block):
    x, = inputs
    kernel = net.parameter(fields["filters"], x.shape[1], fields["kernel"])
    bias = net.parameter(fields["filters"]) if fields.get("use_bias", True) else None
    stride = fields.get("stride", 1)
    if fields.get("padding") == "same":
        x = F.pad(x, same_pads(x.shape[2:], kernel.shape[2:], (stride,)))
    return activate(F.conv1d(x, kernel, bias, stride), fields.get("activation", "linear"))


@layer
def max_pool1d(net, fields, inputs, training, block):
    size = fields.get("size", 2)
    return F.max_pool1d(inputs[0], size, fields.get("stride", size))


@layer
def avg_pool1d(net, fields, inputs, training, block):
    size = fields.get("size", 2)
    return F.avg_pool1d(inputs[0], size, fields.get("stride", size))


@layer
def global_max_pool2d(net, fields, inputs, training, block):
    return inputs[0].amax((2, 3))


@layer
def global_avg_pool2d(net, fields, inputs, training, block):
    return inputs[0].mean((2, 3))


@layer
def reshape(net, fields, inputs, training, block):
    return inputs[0].reshape(inputs[0].shape[0], *fields["shape"])


@layer
def flatten(net, fields, inputs, training, block):
    return inputs[0].flatten(1)


@layer
def batch_norm(net, fields, inputs, training, block):
    x, = inputs
    gamma = net.parameter(x.shape[1], around=1.0, scale=0.3)
    beta = net.parameter(x.shape[1], scale=0.3)
    mean, variance = net.moments(x.shape[1])
    momentum = fields.get("momentum", 0.99)
    dims = [0, 2, 3][:x.dim() - 1]
    if training:
        # The biased variance, as Keras keeps it.
        batch = x.mean(dims).detach(), x.var(dims, unbiased=False).detach()
        net.batch += [momentum * old + (1 - momentum) * new for old, new in zip((mean, variance), batch)]
    return F.batch_norm(x, mean.clone(), variance.clone(), gamma, beta, training=training,
                        eps=fields.get("epsilon", 1e-3))


LAYERS["activation"] = lambda net, fields, inputs, training, block: activate(inputs[0], fields["function"],
                                                                             fields.get("alpha"))


def merged(how, inputs):
    if how == "concat":
        return torch.cat(inputs, 1)
    if how == "add":
        return sum(inputs[1:], inputs[0])
    if how == "multiply":
        product = inputs[0]
        for other in inputs[1:]:
            product = product * other
        return product
    stacked = torch.stack(inputs)
    return stacked.mean(0) if how in ("average", "mean") else stacked.max(0).values


for how in ["add", "multiply", "average", "maximum", "concat"]:
    LAYERS[how] = lambda net, fields, inputs, training, block, how=how: merged(how, inputs)


@layer
def residual(net, fields, inputs, training, block):
    x, = inputs
    body = block(fields["body"], x)
    y = body + block(fields.get("shortcut", []), x)
    return activate(y, fields.get("activation", "linear"))


@layer
def branches(net, fields, inputs, training, block):
    return merged(fields.get("merge", "concat"), [block(path, inputs[0]) for path in fields["paths"]])


@layer
def repeat(net, fields, inputs, training, block):
    x, = inputs
    for _ in range(fields["times"]):
        x = block(fields["layers"], x)
    return x


def case(name, shape, layers, loss="mse", outputs=3, samples=5, targets=None, options=None, scale=0.4, features=None):
    net = Net(layers, shape, scale)
    features = draw(samples, *shape) if features is None else features
    if targets is None:
        targets = torch.arange(samples) * 7 % outputs if loss == "cross_entropy" else draw(samples, outputs)
    options = options or {}
    folded = fold(layers, loss)

    def evaluate(training):
        return loss_of(loss, options, net(features, training, folded), net(features, training), targets, outputs)

    total, _ = evaluate(True)
    total.backward()
    after = [numbers(value) for value in net.batch]
    inference, prediction = evaluate(False)
    values = one_hot(targets, outputs)
    distance = prediction - values
    if outputs == 1:
        correct = ((prediction > 0.5) == (values > 0.5)).sum()
    else:
        correct = (prediction.argmax(-1) == values.argmax(-1)).sum()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters]
    return {
        "name": name, "sample_shape": list(shape), "layers": layers, "loss": {loss: options},
        "outputs": outputs, "samples": samples,
        "parameters": [v for p in net.parameters for v in numbers(p)],
        "running": [numbers(v) for pair in net.running for v in pair], "features": numbers(features),
        "classes": targets.tolist() if targets.dtype == torch.long else None,
        "values": None if targets.dtype == torch.long else numbers(targets),
        "expected": {
            "training_loss": float(total.detach()), "gradients": [v for g in gradients for v in numbers(g)],
            "inference_loss": float(inference.detach()), "prediction": numbers(prediction),
            "correct": int(correct), "abs_err": float(distance.abs().mean(-1).sum().detach()),
            "sq_err": float((distance ** 2).mean(-1).sum().detach()), "running": after,
        },
    }


def named(entry, name):
    (word, fields), = entry.items()
    return {word: {**fields, "name": name}}


def of(entry, *names):
    (word, fields), = entry.items()
    return {word: {**fields, "from": list(names)}}


FLATTEN = {"flatten": {}}


def cases():
    for how in ["add", "multiply", "average", "maximum", "concat"]:
        yield case(f"{how} of three", [4], [
            named(dense(5, activation="tanh"), "one"), of(named(dense(5), "two"), "input"),
            of(named(dense(5, activation="relu"), "three"), "one"), of({how: {}}, "one", "two", "three"), dense(3)])
        yield case(f"{how} of a layer with itself", [4], [
            named(dense(5), "one"), of({how: {}}, "one", "one"), dense(3)])
        yield case(f"{how} of images", [2, 5, 6], [
            named(conv(3, 3, padding="same", activation="relu"), "a"), named(conv(3, 1), "b"), of({how: {}}, "a", "b", "a"),
            FLATTEN, dense(3)], "cross_entropy", samples=3)
        yield case(f"{how} of activations in place", [4], [
            named(dense(5), "one"), named(activation("sigmoid"), "two"), of(named(activation("tanh"), "three"), "one"),
            of({how: {}}, "two", "three"), dense(3)])
    yield case("residual without shortcut", [6], [
        dense(6), {"residual": {"body": [dense(8, activation="relu"), dense(6)], "activation": "relu"}}, dense(3)])
    yield case("residual blocks of images", [3, 8, 8], [
        conv(4, 3, padding="same", use_bias=False), norm(momentum=0.9), activation("relu"),
        {"residual": {"body": [conv(4, 3, padding="same", use_bias=False), norm(), activation("relu"),
                               conv(4, 3, padding="same", use_bias=False), norm()], "activation": "relu"}},
        {"residual": {"body": [conv(6, 3, padding="same", stride=2), norm(), activation("relu"),
                               conv(6, 3, padding="same")],
                      "shortcut": [conv(6, 1, stride=2, use_bias=False), norm()], "activation": "relu"}},
        FLATTEN, dense(3)], "cross_entropy", samples=4, scale=0.2)
    yield case("residual of a residual", [5], [
        {"residual": {"body": [{"residual": {"body": [dense(5, activation="tanh")]}}, dense(5)]}}, dense(3)])
    for how in ["concat", "add", "multiply", "mean", "maximum"]:
        yield case(f"branches, {how}", [2, 6, 6], [
            {"branches": {"merge": how, "paths": [
                [conv(3, 1, activation="relu")], [conv(4, 1), conv(3, 3, padding="same")],
                [conv(3, 3, padding="same"), activation("sigmoid")]]}},
            pool("max", 2), FLATTEN, dense(3)], "cross_entropy", samples=3)
    yield case("branches with an empty path", [4], [{"branches": {"paths": [[], [dense(3, activation="relu")]]}}, dense(3)])
    yield case("repeat", [4], [dense(5), {"repeat": {"times": 3, "layers": [dense(5, activation="tanh"), norm()]}}, dense(3)],
               samples=7)
    yield case("a u of images", [1, 8, 8], [
        named(conv(3, 3, padding="same", activation="relu"), "high"), pool("max", 2),
        named(conv(4, 3, padding="same", activation="relu"), "low"), FLATTEN, named(dense(8, activation="tanh"), "a"),
        of(FLATTEN, "high"), named(dense(8), "b"), of({"multiply": {}}, "a", "b"), dense(3)], "cross_entropy", samples=3)
    for how in ["max", "avg"]:
        yield case(f"global {how} pool", [2, 5, 7], [conv(4, 3, activation="tanh"), {f"global_{how}_pool2d": {}}, dense(3)])
        yield case(f"{how} pool along a sequence", [2, 3, 9], [
            {"reshape": {"shape": [3, -1]}}, {"conv1d": {"filters": 4, "kernel": 3}},
            {f"{how}_pool1d": {"size": 3, "stride": 2}}, activation("tanh"), FLATTEN, dense(3)], samples=4)
    for name, options in [("valid", {}), ("same", dict(padding="same")), ("stride", dict(stride=2, activation="relu")),
                          ("same, stride", dict(stride=3, padding="same", use_bias=False)),
                          ("kernel above stride", dict(kernel=1, stride=2))]:
        yield case(f"conv1d {name}", [24], [
            {"reshape": {"shape": [2, 12]}}, {"conv1d": {"filters": 3, "kernel": 4, **options}},
            {"conv1d": {"filters": 2, "kernel": 2, "activation": "tanh"}}, FLATTEN, dense(3)], "cross_entropy")
    yield case("dense over a sequence", [12], [
        {"reshape": {"shape": [4, 3]}}, dense(5, activation="tanh"), dense(6, activation="relu"), dense(2, use_bias=False),
        FLATTEN, dense(3)])
    yield case("an output of two readers, one of them without parameters before it", [4], [
        named(activation("tanh"), "a"), of(named(activation("sigmoid"), "b"), "input"), of({"add": {}}, "a", "b"), dense(3)])


def main():
    lines = [json.dumps(c, separators=(",", ":")) for c in cases()]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
