#!/usr/bin/env python3
"""Writes activations.json: as graphs.json, for functions of values and for slopes that are learned.

    python make_activations.py > activations.json        # PyTorch 2.15, CPU
"""

import json
import sys

import torch
import torch.nn.functional as F

import make_graphs
import make_reference
from make_graphs import FLATTEN, case, layer
from make_reference import activation, conv, dense

torch.manual_seed(31)
KNOWN = make_reference.activate
FUNCTIONS = {
    "softplus": F.softplus,
    "softsign": F.softsign,
    "selu": F.selu,
    "mish": F.mish,
    "exponential": torch.exp,
    "hard_sigmoid": F.hardsigmoid,
    # By itself it has no gradient at all in PyTorch.
    "step": lambda x: (x >= 0).to(x.dtype) + 0 * x,
    "log_softmax": lambda x: torch.log_softmax(x, -1),
}


def activate(x, name, alpha=None):
    return FUNCTIONS[name](x) if name in FUNCTIONS else KNOWN(x, name, alpha)


make_graphs.activate = activate
make_reference.activate = activate


@layer
def prelu(net, fields, inputs, training, block):
    x, = inputs
    shared = fields.get("shared", False)
    channel = 1 if x.dim() != 3 else 2
    alpha = net.parameter(1 if shared else x.shape[channel], around=fields.get("alpha", 0.25), scale=0.3)
    shape = [1] * x.dim()
    shape[channel] = -1
    return torch.where(x < 0, alpha.reshape(shape) * x, x)


@layer
def threshold(net, fields, inputs, training, block):
    return F.threshold(inputs[0], fields["theta"], fields.get("value", 0.0))


def cases():
    for name in FUNCTIONS:
        yield case(f"{name} by itself", [7], [dense(9), activation(name), dense(3)], samples=6)
        # Large values on both sides.
        yield case(f"{name} of large values", [7], [dense(5, activation=name), dense(3)], samples=4, scale=2.5)
        yield case(f"{name} at the end", [5], [dense(3, activation=name)], samples=6)
        if name != "log_softmax":
            yield case(f"{name} of images", [2, 5, 6], [conv(3, 3, activation=name), FLATTEN, dense(3)], "cross_entropy", samples=3)
    for shape, before, name in [([7], [dense(6)], "features"), ([2, 5, 7], [conv(3, 2)], "images"),
                                ([12], [{"reshape": {"shape": [4, 3]}}, dense(5)], "a sequence")]:
        for shared in [False, True]:
            yield case(f"prelu of {name}, {'one' if shared else 'each'}", shape,
                       before + [{"prelu": {"shared": shared}}, FLATTEN, dense(3)], samples=5)
    yield case("prelu of the samples", [6], [{"prelu": {"alpha": 0.1}}, dense(3)], samples=1)
    yield case("threshold", [6], [dense(5), {"threshold": {"theta": 0.3, "value": -0.7}}, dense(3)])
    yield case("threshold at 0", [6], [{"threshold": {"theta": 0.0}}, dense(3)])
    yield case("log_softmax is folded into no other", [6], [dense(4, activation="log_softmax")], "cross_entropy", outputs=4)


def main():
    lines = [json.dumps(c, separators=(",", ":")) for c in cases()]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
