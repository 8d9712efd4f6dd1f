#!/usr/bin/env python3
"""Writes layers.json: outputs, losses and gradients of small networks, computed by PyTorch.

    python make_reference.py > layers.json        # PyTorch 2.15, CPU

Each case holds a network in the words of a job spec, its parameters, features and targets, and what
PyTorch makes of them in float64: the prediction, the sum of the losses, the metrics' sums, the flat
gradient of that sum (in training mode), and the running statistics after one step. Inputs are short
decimals, so that they are the same numbers in float32 up to rounding.
"""

import json
import math
import sys

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(20)


def draw(*shape, scale=1.0):
    return (torch.randn(*shape) * scale * 1000).round() / 1000


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def same_pads(size, kernel, stride):
    pads = []
    for n, k, s in zip(size, kernel, stride):
        total = max((math.ceil(n / s) - 1) * s + k - n, 0)
        pads = [total // 2, total - total // 2] + pads
    return pads  # left, right, top, bottom


def activate(x, name, alpha=None):
    if name == "leaky_relu":
        return F.leaky_relu(x, 0.3 if alpha is None else alpha)
    if name == "elu":
        return F.elu(x, 1.0 if alpha is None else alpha)
    return {
        "linear": lambda x: x,
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softmax": lambda x: torch.softmax(x, -1),
        "swish": F.silu,
        "gelu": F.gelu,
    }[name](x)


class Net:
    def __init__(self, layers, sample_shape, scale=0.5, zero=(), identity=False):
        self.layers, self.parameters, self.running, self.batch = layers, [], {}, {}
        shape = torch.zeros(2, *sample_shape)
        for index, layer in enumerate(layers):
            (kind, spec), = layer.items()
            own = []
            if kind == "dense":
                own = [draw(shape.shape[1], spec["units"], scale=scale), draw(spec["units"], scale=scale)]
            elif kind == "conv2d":
                own = [draw(spec["filters"], shape.shape[1], *pair(spec["kernel"]), scale=scale),
                       draw(spec["filters"], scale=scale)]
            elif kind == "batch_norm":
                channels = shape.shape[1]
                own = [1 + draw(channels, scale=0.3), draw(channels, scale=0.3)]
                self.running[index] = [draw(channels, scale=0.2), 1 + draw(channels, scale=0.2).abs()]
            if kind in ("dense", "conv2d") and not spec.get("use_bias", True):
                own = own[:1]
            if identity:
                own = [torch.eye(*own[0].shape)]
            if index in zero:
                own = [p * 0 for p in own]
            spec["_parameters"] = len(own)
            self.parameters += [p.requires_grad_() for p in own]
            with torch.no_grad():
                shape = self.run(shape, True, [layer], len(self.parameters) - len(own), index)

    def run(self, x, training, layers=None, at=0, first=0):
        parameters = self.parameters
        for index, layer in enumerate(layers or self.layers, first):
            (kind, spec), = layer.items()
            own = parameters[at:at + spec["_parameters"]] if "_parameters" in spec else []
            at += len(own)
            if kind == "dense":
                x = x @ own[0]
                if len(own) > 1:
                    x = x + own[1]
                x = activate(x, spec.get("activation", "linear"))
            elif kind == "conv2d":
                stride = pair(spec.get("stride", 1))
                if spec.get("padding") == "same":
                    x = F.pad(x, same_pads(x.shape[2:], own[0].shape[2:], stride))
                x = F.conv2d(x, own[0], own[1] if len(own) > 1 else None, stride)
                x = activate(x, spec.get("activation", "linear"))
            elif kind in ("max_pool2d", "avg_pool2d"):
                size = pair(spec.get("size", 2))
                stride = pair(spec.get("stride", size))
                pads = same_pads(x.shape[2:], size, stride) if spec.get("padding") == "same" else [0] * 4
                if kind == "max_pool2d":
                    x = F.max_pool2d(F.pad(x, pads, value=-math.inf), size, stride)
                else:
                    count = F.avg_pool2d(F.pad(torch.ones_like(x), pads), size, stride)
                    x = F.avg_pool2d(F.pad(x, pads), size, stride) / count
            elif kind == "flatten":
                x = x.flatten(1)
            elif kind == "batch_norm":
                mean, variance = self.running[index]
                dims = [0, 2, 3][:x.dim() - 1]
                if training:
                    # The biased variance, as Keras keeps it.
                    self.batch[index] = [x.mean(dims).detach(), x.var(dims, unbiased=False).detach()]
                x = F.batch_norm(x, mean.clone(), variance.clone(), *own, training=training,
                                 eps=spec.get("epsilon", 1e-3))
            elif kind == "activation":
                x = activate(x, spec["function"], spec.get("alpha"))
        return x


def loss_of(name, options, logits, raw, targets, width):
    """(sum over samples, prediction); `logits` is the output without a folded softmax or sigmoid."""
    if name == "cross_entropy":
        loss = F.cross_entropy(logits, targets, reduction="sum",
                               label_smoothing=options.get("label_smoothing", 0.0))
        return loss, torch.softmax(logits, -1)
    values = one_hot(targets, width)
    if name == "binary_cross_entropy":
        loss = F.binary_cross_entropy_with_logits(logits, values, reduction="none")
        return loss.mean(-1).sum(), torch.sigmoid(logits)
    loss = {
        "mse": lambda: F.mse_loss(raw, values, reduction="none"),
        "mae": lambda: F.l1_loss(raw, values, reduction="none"),
        "huber": lambda: F.huber_loss(raw, values, reduction="none", delta=options.get("delta", 1.0)),
    }[name]()
    return loss.mean(-1).sum(), raw


def one_hot(targets, width):
    if targets.dtype != torch.long:
        return targets
    return targets.double()[:, None] if width == 1 else F.one_hot(targets, width).double()


def fold(layers, loss):
    """The layers without the activation that belongs to the loss, if there is one at the end."""
    folded = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}.get(loss)
    (kind, spec), = layers[-1].items()
    if kind == "activation" and spec["function"] == folded:
        return layers[:-1]
    if spec.get("activation") == folded and folded:
        return layers[:-1] + [{kind: {k: v for k, v in spec.items() if k != "activation"}}]
    return layers


def numbers(tensor):
    return [float(f"{v:.9g}") for v in tensor.detach().flatten().tolist()]


def case(name, shape, layers, loss="mse", outputs=3, samples=5, targets=None, features=None,
         options=None, scale=0.5, zero=(), identity=False):
    net = Net(layers, shape, scale, zero, identity)
    features = draw(samples, *shape) if features is None else features
    if targets is None:
        if loss == "cross_entropy":
            targets = torch.arange(len(features)) * 7 % outputs
        elif loss == "binary_cross_entropy":
            targets = draw(len(features), outputs).sigmoid().mul(1000).round() / 1000
        else:
            targets = draw(len(features), outputs)
    options = options or {}
    folded = fold(layers, loss)

    def evaluate(training):
        return loss_of(loss, options, net.run(features, training, folded), net.run(features, training),
                       targets, outputs)

    total, _ = evaluate(True)
    total.backward()
    inference, prediction = evaluate(False)
    values = one_hot(targets, outputs)
    distance = prediction - values
    if outputs == 1:
        correct = ((prediction > 0.5) == (values > 0.5)).sum()
    else:
        correct = (prediction.argmax(-1) == values.argmax(-1)).sum()
    running, after = [], []
    for index, old in net.running.items():
        momentum = layers[index]["batch_norm"].get("momentum", 0.99)
        running += [numbers(v) for v in old]
        after += [numbers(momentum * a + (1 - momentum) * b) for a, b in zip(old, net.batch[index])]
    clean = [{k: {n: v for n, v in s.items() if n != "_parameters"} for k, s in l.items()} for l in layers]
    return {
        "name": name, "sample_shape": list(shape), "layers": clean, "loss": {loss: options},
        "outputs": outputs, "samples": len(features),
        "parameters": [v for p in net.parameters for v in numbers(p)],
        "running": running, "features": numbers(features),
        "classes": targets.tolist() if targets.dtype == torch.long else None,
        "values": None if targets.dtype == torch.long else numbers(targets),
        "expected": {
            "training_loss": float(total.detach()), "gradients": [v for p in net.parameters for v in numbers(p.grad)],
            "inference_loss": float(inference.detach()), "prediction": numbers(prediction),
            "correct": int(correct), "abs_err": float(distance.abs().mean(-1).sum().detach()),
            "sq_err": float((distance ** 2).mean(-1).sum().detach()), "running": after,
        },
    }


def dense(units, **options):
    return {"dense": {"units": units, **options}}


def conv(filters, kernel, **options):
    return {"conv2d": {"filters": filters, "kernel": kernel, **options}}


def pool(kind, size, **options):
    return {f"{kind}_pool2d": {"size": size, **options}}


def activation(function, **options):
    return {"activation": {"function": function, **options}}


def norm(**options):
    return {"batch_norm": options}


FLATTEN = {"flatten": {}}


def cases():
    functions = ["relu", "leaky_relu", "elu", "sigmoid", "tanh", "softmax", "swish", "gelu"]
    yield case("dense", [5], [dense(4), dense(3)])
    yield case("dense without bias", [5], [dense(4, use_bias=False, activation="relu"), dense(3, use_bias=False)])
    for name in functions:
        yield case(f"dense with {name}", [4], [dense(6, activation=name), dense(5), activation(name), dense(3)])
        yield case(f"{name} on features and twice", [4],
                   [activation(name), dense(5), activation(name), activation(name), dense(3)])
    yield case("slopes", [4], [dense(5), activation("leaky_relu", alpha=0.1), dense(5),
                               activation("elu", alpha=1.5), dense(3)])
    yield case("slope 0", [4], [dense(5), activation("leaky_relu", alpha=0.0), dense(5),
                                activation("elu", alpha=0.0), dense(3)])
    for name in ["relu", "leaky_relu", "elu"]:
        yield case(f"{name} at 0", [4], [dense(5, activation=name), dense(3)], zero=(0,))
    yield case("gelu and swish far from 0", [4], [dense(6), activation("gelu"), dense(6), activation("swish"),
                                                  dense(3)], scale=4.0)
    for name, shape, first, second in [
        ("valid", [2, 7, 5], dict(kernel=[3, 2]), dict(kernel=2)),
        ("same", [2, 7, 5], dict(kernel=3, padding="same"), dict(kernel=[2, 4], padding="same")),
        ("stride", [1, 8, 9], dict(kernel=3, stride=2), dict(kernel=2, stride=[1, 2])),
        ("same, stride", [3, 7, 6], dict(kernel=3, stride=2, padding="same"),
         dict(kernel=2, stride=2, padding="same")),
        ("stride above kernel", [2, 8, 7], dict(kernel=2, stride=3), dict(kernel=1, stride=2)),
        ("same, stride above kernel", [2, 8, 7], dict(kernel=2, stride=3, padding="same"), dict(kernel=1)),
        ("kernel above image", [2, 3, 4], dict(kernel=5, padding="same"), dict(kernel=[7, 5], padding="same")),
        ("row kernel", [2, 4, 20], dict(kernel=[1, 3], stride=1), dict(kernel=[3, 1])),
        ("wide", [2, 5, 21], dict(kernel=3), dict(kernel=3, padding="same")),
    ]:
        yield case(f"conv2d {name}", shape, [conv(3, activation="relu", **first), conv(2, activation="tanh", **second),
                                             FLATTEN, dense(3)], "cross_entropy", scale=0.3)
    yield case("conv2d of a large batch", [1, 4, 4],
               [conv(3, 3, activation="relu"), conv(9, 2, use_bias=False), FLATTEN, dense(3)],
               "cross_entropy", samples=13)
    yield case("conv2d of many channels", [3, 5, 9],
               [conv(9, 3, activation="relu"), conv(10, 3, padding="same", activation="relu"), FLATTEN, dense(3)],
               "cross_entropy", samples=3, scale=0.2)
    yield case("conv2d of more channels", [2, 8, 10],
               [conv(18, 3, activation="relu"), conv(5, [3, 2], padding="same", activation="relu"), FLATTEN,
                dense(3)], "cross_entropy", samples=2, scale=0.2)
    yield case("conv2d relu at 0", [1, 4, 4], [conv(2, 2, activation="relu"), FLATTEN, dense(3)], zero=(0,))
    for name, shape, layer in [
        ("max", [2, 6, 8], pool("max", 2)),
        ("max, odd", [2, 7, 5], pool("max", 2)),
        ("max, overlap", [2, 7, 8], pool("max", 3, stride=2)),
        ("max, same", [2, 7, 6], pool("max", 3, stride=2, padding="same")),
        ("max, same, stride 1", [2, 5, 4], pool("max", 2, stride=1, padding="same")),
        ("max, stride above size", [2, 8, 7], pool("max", 2, stride=3)),
        ("max, rectangle", [2, 6, 9], pool("max", [2, 3], stride=[1, 2])),
        ("average", [2, 6, 8], pool("avg", 2)),
        ("average, odd", [2, 7, 5], pool("avg", 2)),
        ("average, overlap", [2, 7, 8], pool("avg", 3, stride=1)),
        ("average, same", [2, 7, 6], pool("avg", 3, stride=2, padding="same")),
        ("average, rectangle", [2, 6, 9], pool("avg", [3, 2], stride=[2, 3])),
    ]:
        yield case(f"pool {name}", shape, [conv(2, 2, padding="same"), layer, conv(2, 2, activation="relu"), FLATTEN,
                                           dense(3)], scale=0.4, samples=3)
    yield case("pool max of equal values", [2, 6, 6], [conv(2, 2), pool("max", 2, stride=1), FLATTEN, dense(3)],
               zero=(0,))
    yield case("conv2d, relu and max pool", [1, 7, 6], [conv(4, 3, activation="relu", padding="same"), pool("max", 2),
                                                        FLATTEN, dense(3)], samples=6)
    yield case("batch norm of features", [4], [dense(6), norm(), activation("relu"), dense(3)], samples=7)
    yield case("batch norm first", [4], [norm(momentum=0.9, epsilon=1e-5), dense(5), norm(), dense(3)], samples=6)
    yield case("batch norm of images", [2, 5, 6],
               [conv(3, 3), norm(momentum=0.8), activation("relu"), pool("max", 2), norm(), conv(2, 1), FLATTEN,
                dense(3)], "cross_entropy", samples=5)
    yield case("batch norm far from 0", [3], [norm(), dense(2)], outputs=2, samples=6,
               features=(draw(6, 3, scale=0.05) * 1024).round() / 1024 + 50)
    for folded in [False, True]:
        end = [activation("softmax")] if folded else []
        word = "softmax" if folded else "logits"
        yield case(f"cross-entropy of {word}", [4], [dense(5, activation="tanh"), dense(4)] + end, "cross_entropy", 4, 7)
        end = [activation("sigmoid")] if folded else []
        word = "sigmoid" if folded else "logits"
        yield case(f"binary cross-entropy of {word}", [4], [dense(5, activation="tanh"), dense(3)] + end,
                   "binary_cross_entropy", 3, 7)
    yield case("cross-entropy in dense", [4], [dense(3, activation="softmax")], "cross_entropy", options={"label_smoothing": 0.1})
    yield case("binary cross-entropy in dense", [4], [dense(1, activation="sigmoid")], "binary_cross_entropy", 1, 7,
               targets=torch.tensor([0, 1, 1, 0, 1, 0, 0]))
    extreme = torch.tensor([[60.0, -60.0, 0.0], [-60.0, 60.0, 59.0], [60.0, 60.0, -60.0], [0.5, -60.0, 60.0]])
    yield case("cross-entropy of logits of 60", [3], [dense(3, use_bias=False)], "cross_entropy", features=extreme, identity=True,
               targets=torch.tensor([1, 1, 2, 0]))
    yield case("smoothed cross-entropy of logits of 60", [3], [dense(3, use_bias=False)], "cross_entropy", features=extreme, identity=True,
               targets=torch.tensor([1, 1, 2, 0]), options={"label_smoothing": 0.2})
    yield case("binary cross-entropy of logits of 60", [3], [dense(3, use_bias=False)], "binary_cross_entropy", features=extreme, identity=True,
               targets=torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.25], [0.0, 0.5, 0.0], [1.0, 0.0, 1.0]]))
    for loss, options in [("mse", {}), ("mae", {}), ("huber", {}), ("huber", {"delta": 0.4})]:
        for outputs in [1, 3]:
            yield case(f"{loss} {options} of {outputs}", [4], [dense(5, activation="tanh"), dense(outputs)], loss,
                       outputs, options=options)
    yield case("mae at the target", [2], [dense(2)], "mae", 2, targets=torch.zeros(3, 2), features=draw(3, 2), zero=(0,))
    yield case("mse of classes", [4], [dense(3, activation="softmax")], "mse", targets=torch.tensor([0, 2, 1, 1, 0]))
    # A function over the output of a layer, which that layer may still need.
    classes = torch.tensor([0, 2, 1, 1, 0])
    for name in ["sigmoid", "softmax", "elu"]:
        yield case(f"dense relu, {name}", [4], [dense(6, activation="relu"), activation(name), dense(3)])
    yield case("dense relu, softmax of mse", [4], [dense(5, activation="tanh"), dense(3, activation="relu"),
                                                   activation("softmax")], "mse", targets=classes)
    yield case("conv2d relu, tanh", [2, 5, 6], [conv(3, 3, activation="relu"), activation("tanh"), FLATTEN, dense(3)])
    yield case("conv2d relu, flatten, softmax of mse", [1, 4, 3],
               [conv(3, [4, 3], activation="relu"), FLATTEN, activation("softmax")], "mse", targets=classes)
    yield case("swish, sigmoid", [4], [dense(6, activation="swish"), activation("sigmoid"), dense(3)])
    yield case("batch norm, sigmoid", [4], [dense(6), norm(), activation("sigmoid"), dense(3)], samples=7)
    yield case("max pool, tanh", [2, 6, 6], [conv(3, 3), pool("max", 2), activation("tanh"), FLATTEN, dense(3)])
    yield case("average pool, elu", [2, 6, 6], [conv(3, 3), pool("avg", 2), activation("elu"), FLATTEN, dense(3)])


def main():
    lines = [json.dumps(c, separators=(",", ":")) for c in cases()]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
