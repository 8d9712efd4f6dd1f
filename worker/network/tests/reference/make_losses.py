#!/usr/bin/env python3
"""Writes losses.json: as graphs.json, small networks under every loss and what it may be set to.

    python make_losses.py > losses.json        # PyTorch 2.15, CPU

A loss is a function in LOSSES: (output, targets, options) -> (loss of each sample, prediction). Its output is that of the
network without a softmax or sigmoid that the loss applies itself. Where PyTorch has the loss its own is taken, otherwise
it is written as in the paper or in Keras; gradients are PyTorch's either way.
"""

import json
import sys

import torch
import torch.nn.functional as F

from make_graphs import Net
from make_reference import conv, dense, draw, numbers

torch.manual_seed(23)
LOSSES = {}
FOLDED = {"cross_entropy": "softmax", "categorical_focal": "softmax", "kl_divergence": "softmax",
          "binary_cross_entropy": "sigmoid", "binary_focal": "sigmoid", "dice": "sigmoid", "jaccard": "sigmoid",
          "tversky": "sigmoid"}


def loss(function):
    LOSSES[function.__name__] = function
    return function


def mean(values):
    return values.flatten(1).mean(1)


def wide(targets, output):
    """Targets in the outputs' shape: classes as one-hot, or as the number of the only output."""
    if targets.dtype != torch.long:
        return targets.reshape(output.shape)
    if output.shape[1:] == (1,):
        return targets.double()[:, None]
    hot = F.one_hot(targets, output.shape[1]).double()
    return hot if targets.dim() == 1 else hot.movedim(-1, 1)


@loss
def cross_entropy(z, t, options):
    smoothing = options.get("label_smoothing", 0.0)
    target = t if t.dtype == torch.long else t.reshape(z.shape)
    value = F.cross_entropy(z, target, reduction="none", label_smoothing=smoothing)
    return value.flatten(1).mean(1) if value.dim() > 1 else value, torch.softmax(z, 1)


@loss
def binary_cross_entropy(z, t, options):
    s = options.get("label_smoothing", 0.0)
    t = wide(t, z) * (1 - s) + s / 2
    return mean(F.binary_cross_entropy_with_logits(z, t, reduction="none")), torch.sigmoid(z)


@loss
def categorical_focal(z, t, options):
    p = torch.softmax(z, 1)
    own = p.gather(1, t[:, None])[:, 0]
    return -(1 - own) ** options.get("gamma", 2.0) * torch.log_softmax(z, 1).gather(1, t[:, None])[:, 0], p


@loss
def binary_focal(z, t, options):
    # As torchvision.ops.sigmoid_focal_loss.
    t, p = wide(t, z), torch.sigmoid(z)
    entropy = F.binary_cross_entropy_with_logits(z, t, reduction="none")
    right = p * t + (1 - p) * (1 - t)
    value = entropy * (1 - right) ** options.get("gamma", 2.0)
    if "alpha" in options:
        value = value * (options["alpha"] * t + (1 - options["alpha"]) * (1 - t))
    return mean(value), p


@loss
def kl_divergence(z, t, options):
    value = F.kl_div(torch.log_softmax(z, 1), t.reshape(z.shape), reduction="none").sum(1)
    return value.flatten(1).mean(1) if value.dim() > 1 else value, torch.softmax(z, 1)


@loss
def categorical_hinge(y, t, options):
    others = y.masked_fill(F.one_hot(t, y.shape[1]).bool(), -torch.inf).amax(1)
    return torch.relu(1 + others - y.gather(1, t[:, None])[:, 0]), y


@loss
def hinge(y, t, options):
    t = wide(t, y)
    return mean(torch.relu(1 - torch.where(t > 0, 1.0, -1.0) * y)), y


@loss
def squared_hinge(y, t, options):
    t = wide(t, y)
    return mean(torch.relu(1 - torch.where(t > 0, 1.0, -1.0) * y) ** 2), y


@loss
def mse(y, t, options):
    return mean(F.mse_loss(y, wide(t, y), reduction="none")), y


@loss
def mae(y, t, options):
    return mean(F.l1_loss(y, wide(t, y), reduction="none")), y


@loss
def huber(y, t, options):
    return mean(F.huber_loss(y, wide(t, y), reduction="none", delta=options.get("delta", 1.0))), y


@loss
def log_cosh(y, t, options):
    return mean(torch.log(torch.cosh(y - wide(t, y)))), y


@loss
def msle(y, t, options):
    return mean((torch.log1p(y.clamp(min=0)) - torch.log1p(wide(t, y))) ** 2), y


@loss
def mape(y, t, options):
    t = wide(t, y)
    return mean(100 * (y - t).abs() / t.abs().clamp(min=1e-7)), y


@loss
def quantile(y, t, options):
    q, d = options["quantile"], wide(t, y) - y
    return mean(torch.maximum(q * d, (q - 1) * d)), y


@loss
def poisson(y, t, options):
    logarithm = options.get("log_input", True)
    value = F.poisson_nll_loss(y, wide(t, y), log_input=logarithm, eps=1e-7, reduction="none")
    return mean(value), torch.exp(y) if logarithm else y


@loss
def cosine_similarity(y, t, options):
    return 1 - F.cosine_similarity(y.flatten(1), t.flatten(1), dim=1), y


def overlap(z, t):
    p, t = torch.sigmoid(z).flatten(1), t.flatten(1)
    return torch.sigmoid(z), (p * t).sum(1), p.sum(1), t.sum(1)


@loss
def dice(z, t, options):
    smooth = options.get("smooth", 1.0)
    p, both, outputs, targets = overlap(z, t)
    return 1 - (2 * both + smooth) / (outputs + targets + smooth), p


@loss
def jaccard(z, t, options):
    smooth = options.get("smooth", 1.0)
    p, both, outputs, targets = overlap(z, t)
    return 1 - (both + smooth) / (outputs + targets - both + smooth), p


@loss
def tversky(z, t, options):
    smooth, alpha, beta = options.get("smooth", 1.0), options.get("alpha", 0.5), options.get("beta", 0.5)
    p, both, outputs, targets = overlap(z, t)
    return 1 - (both + smooth) / (both + alpha * (outputs - both) + beta * (targets - both) + smooth), p


def correct(prediction, targets, values, threshold):
    """Samples that count as right."""
    prediction, values = prediction.flatten(1), values.flatten(1)
    if targets.dtype == torch.long and targets.dim() > 1:
        return 0  # A map of classes is no single answer.
    if prediction.shape[1] == 1:
        return int(((prediction > threshold) == (values > 0.5)).sum())
    return int((prediction.argmax(-1) == values.argmax(-1)).sum())


def case(name, shape, layers, word, targets, options=None, outputs=3, scale=0.4):
    net, options = Net(layers, shape, scale), options or {}
    samples = targets.shape[0]
    features = draw(samples, *shape)
    (kind, fields), = layers[-1].items()
    function = fields.get("activation", fields.get("function"))
    folded = layers
    if function and function == FOLDED.get(word):
        folded = layers[:-1] + ([{kind: {**fields, "activation": "linear"}}] if kind != "activation" else [])

    def evaluate():
        value, prediction = LOSSES[word](net(features, True, folded), targets, options)
        return value.sum(), prediction

    total, prediction = evaluate()
    total.backward()
    distance = (prediction - wide(targets, prediction)).flatten(1)
    flat = targets.dtype == torch.long and targets.dim() == 1
    return {
        "name": name, "sample_shape": list(shape), "layers": layers, "loss": {word: options}, "outputs": outputs,
        "samples": samples, "parameters": [v for p in net.parameters for v in numbers(p)], "running": [],
        "features": numbers(features), "classes": targets.tolist() if flat else None,
        "values": None if flat else numbers(targets.double()),
        "expected": {
            "training_loss": float(total.detach()),
            "gradients": [v for p in net.parameters for v in numbers(p.grad)],
            "inference_loss": float(total.detach()), "prediction": numbers(prediction),
            "correct": correct(prediction, targets, wide(targets, prediction), 0 if "hinge" in word else 0.5),
            "abs_err": float(distance.abs().mean(-1).sum().detach()),
            "sq_err": float((distance ** 2).mean(-1).sum().detach()), "running": [],
        },
    }


def shares(samples, classes, *positions):
    return torch.softmax(draw(samples, classes, *positions), 1).mul(1000).round() / 1000


def cases():
    hidden, last = dense(5, activation="tanh"), [dense(5, activation="tanh"), dense(3)]
    values, positive = draw(5, 3), draw(5, 3).abs()
    labels = (draw(5, 3) > 0).double()
    classes, two = torch.arange(5) * 7 % 3, torch.arange(5) * 7 % 2
    zero = values.clone()
    zero[1, 0] = zero[2, 2] = 0

    for word in ["mse", "mae", "huber", "log_cosh", "cosine_similarity"]:
        yield case(word, [4], last, word, values)
        yield case(f"{word} of one sample", [4], last, word, values[:1])
        yield case(f"{word} of an image", [2, 4, 5], [conv(2, 3, padding="same")], word, draw(3, 40))
    yield case("huber of another delta", [4], last, "huber", values, {"delta": 0.3})
    yield case("log cosh far away", [4], last, "log_cosh", values * 100)
    yield case("cosine similarity of a target of 0", [4], last, "cosine_similarity", torch.cat([values[:2], values[:1] * 0]))
    yield case("msle", [4], last, "msle", positive)
    yield case("mape", [4], last, "mape", values)
    yield case("mape of targets of 0", [4], last, "mape", zero)
    for q in [0.1, 0.5, 0.9]:
        yield case(f"quantile {q}", [4], last, "quantile", values, {"quantile": q})
    yield case("poisson of rates", [4], [hidden, dense(3, activation="sigmoid")], "poisson", positive.round(), {"log_input": False})
    yield case("poisson of logarithms", [4], last, "poisson", positive.round())

    for activation in ["linear", "softmax"]:
        ends = [hidden, dense(3, activation=activation)]
        for smoothing in [0.0, 0.2]:
            options = {"label_smoothing": smoothing}
            yield case(f"cross entropy of shares, {activation}, {smoothing}", [4], ends, "cross_entropy", shares(5, 3), options)
        yield case(f"divergence, {activation}", [4], ends, "kl_divergence", shares(5, 3))
        for gamma in [0.0, 0.5, 2.0, 3.0]:
            yield case(f"categorical focal {gamma}, {activation}", [4], ends, "categorical_focal", classes, {"gamma": gamma})
    yield case("cross entropy of one-hot targets", [4], last, "cross_entropy", F.one_hot(classes, 3).double())
    yield case("cross entropy of shares that are not 1 together", [4], last, "cross_entropy", shares(5, 3) * 0.5)
    yield case("divergence of one-hot targets", [4], last, "kl_divergence", F.one_hot(classes, 3).double())
    yield case("divergence of shares that are not 1 together", [4], last, "kl_divergence", shares(5, 3) * 0.5)
    pixels = torch.arange(4 * 30).reshape(4, 5, 6) * 7 % 3
    for smoothing in [0.0, 0.1]:
        yield case(f"cross entropy of pixels, {smoothing}", [2, 5, 6], [conv(3, 3, padding="same")], "cross_entropy", pixels,
                   {"label_smoothing": smoothing})
    yield case("cross entropy of pixels' shares", [2, 5, 6], [conv(3, 3, padding="same")], "cross_entropy", shares(4, 3, 5, 6))
    yield case("cross entropy of pixels of one sample", [2, 5, 6], [conv(3, 1)], "cross_entropy", pixels[:1])
    yield case("divergence of pixels", [2, 5, 6], [conv(3, 3, padding="same")], "kl_divergence", shares(4, 3, 5, 6))

    for word in ["binary_cross_entropy", "binary_focal", "hinge", "squared_hinge"]:
        yield case(f"{word} of one output", [4], [hidden, dense(1)], word, two, outputs=2)
        yield case(f"{word} of two classes", [4], [hidden, dense(2)], word, two, outputs=2)
        yield case(f"{word} of three classes", [4], last, word, classes)
        yield case(f"{word} of labels", [4], last, word, labels)
        yield case(f"{word} of a mask", [2, 5, 6], [conv(1, 3, padding="same")], word, (draw(4, 30) > 0).double())
        if "hinge" in word:
            yield case(f"{word} of labels of -1", [4], last, word, labels * 2 - 1)
    yield case("binary cross entropy, smoothed", [4], [hidden, dense(3, activation="sigmoid")], "binary_cross_entropy", labels,
               {"label_smoothing": 0.2})
    for options in [{"gamma": 0.0}, {"gamma": 0.5}, {"gamma": 2.0, "alpha": 0.25}, {"gamma": 3.5, "alpha": 0.9}]:
        yield case(f"binary focal {options}", [4], [hidden, dense(3, activation="sigmoid")], "binary_focal", labels, options)
    yield case("categorical hinge", [4], last, "categorical_hinge", classes)
    yield case("categorical hinge of one sample", [4], last, "categorical_hinge", classes[:1])
    yield case("categorical hinge of large outputs", [4], last, "categorical_hinge", classes, scale=3)

    mask = (draw(4, 30) > 0).double()
    for word, more in [("dice", {}), ("jaccard", {}), ("tversky", {}), ("dice", {"smooth": 0.01}), ("jaccard", {"smooth": 5.0}),
                       ("tversky", {"alpha": 0.3, "beta": 0.7, "smooth": 0.5}), ("tversky", {"alpha": 0.0, "beta": 1.0})]:
        for activation in ["linear", "sigmoid"]:
            yield case(f"{word} {more}, {activation}", [2, 5, 6], [conv(1, 3, padding="same", activation=activation)], word,
                       mask, more)
    yield case("dice of an empty mask", [2, 5, 6], [conv(1, 3, padding="same")], "dice", mask * 0)
    yield case("dice of labels", [4], last, "dice", labels)


def main():
    lines = [json.dumps(c, separators=(",", ":")) for c in cases()]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
