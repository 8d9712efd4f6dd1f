#!/usr/bin/env python3
"""Writes sequences.json: as graphs.json, for layers along sequences and normalizations within a sample.

    python make_sequences.py > sequences.json        # PyTorch 2.15, CPU
"""

import json
import sys

import torch
import torch.nn.functional as F

from make_graphs import FLATTEN, LAYERS, case, layer, merged, named, of
from make_reference import activate, activation, conv, dense, draw

torch.manual_seed(22)


@layer
def permute(net, fields, inputs, training, block):
    return inputs[0].permute(0, *fields["order"]).contiguous()


@layer
def layer_norm(net, fields, inputs, training, block):
    x, = inputs
    gamma = net.parameter(x.shape[-1], around=1.0, scale=0.3)
    beta = net.parameter(x.shape[-1], scale=0.3)
    return F.layer_norm(x, x.shape[-1:], gamma, beta, fields.get("epsilon", 1e-3))


@layer
def group_norm(net, fields, inputs, training, block):
    x, = inputs
    gamma = net.parameter(x.shape[1], around=1.0, scale=0.3)
    beta = net.parameter(x.shape[1], scale=0.3)
    return F.group_norm(x, fields.get("groups", 32), gamma, beta, fields.get("epsilon", 1e-3))


@layer
def instance_norm(net, fields, inputs, training, block):
    return group_norm(net, {"groups": inputs[0].shape[1], **fields}, inputs, training, block)


def sequence(word, net, fields, x, backwards, aligned):
    """Keras's formulas, step by step. Weights [features, gates * units], [units, gates * units], bias."""
    units, steps = fields["units"], x.shape[1]
    count = {"lstm": 4, "gru": 3, "simple_rnn": 1}[word]
    after = word == "gru" and fields.get("reset_after", True)
    kernel, recurrent = net.parameter(x.shape[2], count * units), net.parameter(units, count * units)
    bias = torch.zeros(2, count * units)
    if fields.get("use_bias", True):
        bias = net.parameter(2, count * units) if after else torch.stack([net.parameter(count * units), bias[1]])
    act = lambda value: activate(value, fields.get("activation", "tanh"))
    sig = lambda value: activate(value, fields.get("recurrent_activation", "sigmoid"))
    h = c = torch.zeros(x.shape[0], units)
    outputs = []
    for t in (reversed(range(steps)) if backwards else range(steps)):
        projected = x[:, t] @ kernel + bias[0]
        if word == "simple_rnn":
            new_h, new_c = act(projected + h @ recurrent), c
        elif word == "lstm":
            i, f, g, o = (projected + h @ recurrent).split(units, 1)
            new_c = sig(f) * c + sig(i) * act(g)
            new_h = sig(o) * act(new_c)
        else:
            xz, xr, xn = projected.split(units, 1)
            uz, ur, un = recurrent.split(units, 1)
            bz, br, bn = bias[1].split(units)
            z, r = sig(xz + h @ uz + bz), sig(xr + h @ ur + br)
            n = act(xn + r * (h @ un + bn)) if after else act(xn + (r * h) @ un)
            new_h, new_c = z * h + (1 - z) * n, c
        if "mask_value" in fields:
            masked = (x[:, t] == fields["mask_value"]).all(1, keepdim=True)
            new_h, new_c = torch.where(masked, h, new_h), torch.where(masked, c, new_c)
        h, c = new_h, new_c
        outputs.append(h)
    if not fields.get("return_sequences", False):
        return h
    return torch.stack(outputs[::-1] if backwards and aligned else outputs, 1)


for word in ["lstm", "gru", "simple_rnn"]:
    LAYERS[word] = lambda net, fields, inputs, training, block, word=word: sequence(
        word, net, fields, inputs[0], fields.get("go_backwards", False), False)


@layer
def bidirectional(net, fields, inputs, training, block):
    (word, inner), = fields["layer"].items()
    forward = sequence(word, net, inner, inputs[0], False, True)
    backward = sequence(word, net, inner, inputs[0], True, True)
    how = fields.get("merge", "concat")
    return torch.cat([forward, backward], -1) if how == "concat" else merged(how, [forward, backward])


@layer
def concat(net, fields, inputs, training, block):
    return torch.cat(inputs, fields.get("axis", 1))


def torchs(word):
    """Whether the formulas above are those of PyTorch's own modules, whose gates are turned round for that."""
    torch.manual_seed(5)
    f, u, count = 3, 4, {"lstm": 4, "gru": 3}[word]
    x, parameters = torch.randn(2, 6, f), [torch.randn(f, count * u), torch.randn(u, count * u), torch.randn(2, count * u)]

    class Given:
        def parameter(self, *shape):
            return next(given)

    if word == "lstm":
        parameters[2][1] = 0
        given = iter(parameters[:2] + [parameters[2][0]])
        module, turn = torch.nn.LSTM(f, u, batch_first=True), lambda w: w
    else:
        given = iter(parameters)
        # PyTorch has r, z, n.
        module = torch.nn.GRU(f, u, batch_first=True)
        turn = lambda w: torch.cat([w[..., u:2 * u], w[..., :u], w[..., 2 * u:]], -1)
    with torch.no_grad():
        module.weight_ih_l0.copy_(turn(parameters[0]).T)
        module.weight_hh_l0.copy_(turn(parameters[1]).T)
        module.bias_ih_l0.copy_(turn(parameters[2][0]))
        module.bias_hh_l0.copy_(turn(parameters[2][1]))
        ours = sequence(word, Given(), {"units": u, "return_sequences": True}, x, False, False)
        assert torch.allclose(ours, module(x)[0], atol=1e-12), word


def padded(samples, steps, features, value):
    """Sequences of several lengths, filled up with `value`; one begins with it, one is nothing else."""
    x = draw(samples, steps, features)
    for sample in range(samples):
        x[sample, steps - sample % steps:] = value
    x[0, :2], x[-1, :] = value, value
    x[1, 1, 0] = value
    return x


def recurrent():
    for word in ["lstm", "gru"]:
        torchs(word)
    kinds = [("lstm", {}), ("gru", {}), ("gru", {"reset_after": False}), ("simple_rnn", {})]
    for word, more in kinds:
        name = word + ("" if more == {} else ", reset before")
        of_two = {} if word == "simple_rnn" else {"recurrent_activation": "tanh"}
        for what, shape, options, samples in [
                ("the last step", [5, 3], {}, 4), ("one step", [1, 3], {}, 3), ("one feature, one unit", [4, 1], {"units": 1}, 3),
                ("all steps", [4, 2], {"return_sequences": True}, 5), ("without bias", [3, 2], {"use_bias": False}, 3),
                ("backwards", [4, 3], {"go_backwards": True}, 3),
                ("backwards, all steps", [4, 3], {"go_backwards": True, "return_sequences": True}, 3),
                ("relu", [3, 3], {"activation": "relu", **of_two}, 3),
                ("linear", [3, 3], {"activation": "linear"}, 3), ("more samples than a piece", [2, 2], {"units": 3}, 37),
                ("a wide one", [3, 9], {"units": 19, "return_sequences": True}, 2)]:
            layers = [{word: {"units": 5, **more, **options}}, FLATTEN, dense(3)]
            yield case(f"{name}: {what}", shape, layers, samples=samples, scale=0.5)
        yield case(f"{name}: stacked", [6, 1], [
            {word: {"units": 4, "return_sequences": True, **more}}, {word: {"units": 3, **more}}, dense(3)], "cross_entropy", samples=4)
        yield case(f"{name}: masked", [5, 2], [{word: {"units": 3, "mask_value": 0.5, **more}}, dense(3)], samples=7,
                   features=padded(7, 5, 2, 0.5))
        yield case(f"{name}: masked, all steps", [5, 2], [
            {word: {"units": 3, "mask_value": 0, "return_sequences": True, "go_backwards": True, **more}}, FLATTEN, dense(3)],
            samples=7, features=padded(7, 5, 2, 0))
        for merge in ["concat", "add", "multiply", "average"]:
            yield case(f"bidirectional {name}, {merge}", [4, 3], [
                {"bidirectional": {"layer": {word: {"units": 3, "return_sequences": True, **more}}, "merge": merge}},
                {"bidirectional": {"layer": {word: {"units": 2, **more}}, "merge": merge}}, dense(3)], samples=3)
    yield case("bidirectional lstm, masked", [5, 2], [
        {"bidirectional": {"layer": {"lstm": {"units": 3, "mask_value": 0, "return_sequences": True}}}}, FLATTEN, dense(3)],
        samples=6, features=padded(6, 5, 2, 0))
    yield case("lstm read twice", [4, 3], [
        named(dense(3, activation="tanh"), "a"), named({"lstm": {"units": 3, "return_sequences": True}}, "b"),
        of({"add": {}}, "a", "b"), {"gru": {"units": 3}}, dense(3)])
    yield case("concat of the features of sequences", [4, 3], [
        named(dense(3, activation="tanh"), "a"), named(dense(5), "b"), of(named({"concat": {"axis": 2}}, "c"), "a", "b"),
        {"concat": {"axis": 2, "from": ["c", "a", "c"]}}, FLATTEN, dense(3)], samples=3)


@layer
def embedding(net, fields, inputs, training, block):
    table = net.parameter(fields["vocabulary"], fields["dimensions"])
    indices = inputs[0].long()
    if fields.get("mask_zero"):
        table = table * (torch.arange(len(table)) > 0)[:, None]
    return table[indices]


@layer
def positional_encoding(net, fields, inputs, training, block):
    x, = inputs
    steps, features = x.shape[1:]
    if fields.get("kind") == "learned":
        return x + net.parameter(steps, features)
    feature = torch.arange(features)
    angles = torch.arange(steps)[:, None] / 10000 ** (2 * (feature // 2) / features)
    return x + torch.where(feature % 2 == 0, angles.sin(), angles.cos())


@layer
def multi_head_attention(net, fields, inputs, training, block):
    """Keras's layer: kernels [features, heads, key_dim], the output's [heads, key_dim, features]."""
    query, value = inputs[0], inputs[min(1, len(inputs) - 1)]
    key = inputs[2] if len(inputs) > 2 else value
    heads, width, bias = fields["heads"], fields["key_dim"], fields.get("use_bias", True)

    def project(x):
        kernel = net.parameter(x.shape[2], heads, width)
        y = torch.einsum("nsf,fhd->nhsd", x, kernel)
        return y + net.parameter(heads, width)[:, None] if bias else y

    q, k, v = project(query), project(key), project(value)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=fields.get("causal", False))
    y = torch.einsum("nhsd,hdf->nsf", mixed, net.parameter(heads, width, query.shape[2]))
    return y + net.parameter(query.shape[2]) if bias else y


@layer
def time_distributed(net, fields, inputs, training, block):
    x, = inputs
    y = block(fields["layers"], x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def indices(samples, steps, vocabulary):
    return torch.tensor([[(7 * i + 3 * j + i * j) % vocabulary for j in range(steps)] for i in range(samples)]).double()


def attention():
    for more in [{}, {"mask_zero": True}]:
        yield case(f"embedding {more}", [5], [
            {"embedding": {"vocabulary": 9, "dimensions": 4, **more}}, dense(3, activation="tanh"), FLATTEN, dense(3)],
            features=indices(6, 5, 9), samples=6)
    yield case("embedding, masked", [6], [
        {"embedding": {"vocabulary": 5, "dimensions": 3, "mask_zero": True}}, {"lstm": {"units": 4, "mask_value": 0}}, dense(3)],
        "cross_entropy", features=indices(7, 6, 5), samples=7)
    yield case("embedding of images", [1, 2, 3], [
        {"embedding": {"vocabulary": 4, "dimensions": 5}}, {"reshape": {"shape": [6, 5]}}, {"gru": {"units": 3}}, dense(3)],
        features=indices(3, 6, 4).reshape(3, 1, 2, 3), samples=3)
    yield case("two embeddings of the samples", [4], [
        {"embedding": {"vocabulary": 7, "dimensions": 3, "name": "a"}},
        {"embedding": {"vocabulary": 8, "dimensions": 3, "name": "b", "from": "input"}}, {"multiply": {"from": ["a", "b"]}},
        FLATTEN, dense(3)], features=indices(4, 4, 7), samples=4)
    for kind in ["sinusoidal", "learned"]:
        for shape in [[5, 3], [7, 8], [1, 1]]:
            yield case(f"positional encoding {kind} {shape}", shape, [
                dense(shape[1], activation="tanh"), {"positional_encoding": {"kind": kind}}, activation("sigmoid"), FLATTEN, dense(3)])
    for name, options in [("", {}), ("causal", {"causal": True}), ("without bias", {"use_bias": False}),
                          ("one head", {"heads": 1, "key_dim": 7})]:
        yield case(f"self-attention {name}", [5, 3], [
            {"multi_head_attention": {"heads": 2, "key_dim": 3, **options}}, activation("tanh"), FLATTEN, dense(3)], samples=3)
        yield case(f"attention to others {name}", [5, 3], [
            named(dense(4), "query"), {"permute": {"order": [2, 1]}}, {"conv1d": {"filters": 6, "kernel": 3}},
            named({"permute": {"order": [2, 1]}}, "value"),
            of({"multi_head_attention": {"heads": 3, "key_dim": 2, **options}}, "query", "value"), FLATTEN, dense(3)], samples=2)
    yield case("attention with keys of their own", [4, 3], [
        named(dense(4), "q"), named(dense(5), "v"), of(named(dense(2, activation="tanh"), "k"), "input"),
        of({"multi_head_attention": {"heads": 2, "key_dim": 3}}, "q", "v", "k"), FLATTEN, dense(3)], samples=2)
    yield case("attention, one sample, one step", [1, 4], [{"multi_head_attention": {"heads": 2, "key_dim": 2}}, FLATTEN, dense(3)], samples=1)
    block = [
        {"residual": {"body": [{"layer_norm": {}}, {"multi_head_attention": {"heads": 2, "key_dim": 4, "causal": True}}]}},
        {"residual": {"body": [{"layer_norm": {}}, dense(9, activation="gelu"), dense(6)]}}]
    yield case("an encoder", [7], [
        {"embedding": {"vocabulary": 11, "dimensions": 6}}, {"positional_encoding": {"kind": "learned"}},
        {"repeat": {"times": 2, "layers": block}}, {"layer_norm": {}}, FLATTEN, dense(3)], "cross_entropy",
        features=indices(4, 7, 11), samples=4)
    yield case("time distributed dense", [4, 6], [
        {"time_distributed": {"layers": [dense(5, activation="tanh"), {"layer_norm": {}}, dense(2)]}}, FLATTEN, dense(3)])
    image = [{"reshape": {"shape": [1, 5, 4]}}, conv(3, 3, activation="relu"), named(conv(2, 2, activation="tanh"), "a"),
             {"branches": {"paths": [[], [conv(2, 1)]]}}, {"max_pool2d": {"size": [2, 1]}}, FLATTEN]
    yield case("time distributed images, then an lstm", [3, 20], [
        {"time_distributed": {"layers": image}}, {"lstm": {"units": 4}}, dense(3)], "cross_entropy", samples=4)
    yield case("time distributed sequences", [2, 3, 4], [
        {"time_distributed": {"layers": [{"gru": {"units": 3, "return_sequences": True}}, {"lstm": {"units": 2}}]}},
        {"simple_rnn": {"units": 3}}, dense(3)], samples=5)
    yield case("time distributed in time distributed", [2, 3, 4], [
        {"time_distributed": {"layers": [
            named({"time_distributed": {"layers": [dense(3, activation="tanh")]}}, "a"),
            named({"multi_head_attention": {"heads": 1, "key_dim": 2}}, "b"), {"concat": {"axis": 2, "from": ["input", "b"]}},
            FLATTEN, dense(2)]}}, FLATTEN, dense(3)], samples=3)


def norms():
    for shape, order in [([3, 5], [2, 1]), ([2, 3, 5], [3, 1, 2]), ([2, 3, 5], [1, 3, 2]), ([2, 3, 5], [2, 1, 3]),
                         ([2, 3, 5], [3, 2, 1]), ([2, 3, 5], [2, 3, 1]), ([1, 3, 5], [3, 1, 2])]:
        yield case(f"permute {shape} to {order}", shape, [
            activation("tanh"), {"permute": {"order": order}}, activation("sigmoid"), FLATTEN, dense(3)])
    yield case("permute of four dimensions", [24], [
        dense(30), {"reshape": {"shape": [2, 3, 5, 1]}}, {"permute": {"order": [3, 4, 1, 2]}}, FLATTEN, dense(3)])
    yield case("permute of the features", [4, 3], [{"permute": {"order": [2, 1]}}, dense(5, activation="tanh"), FLATTEN, dense(3)])
    yield case("steps of features", [5, 2], [dense(4, activation="tanh"), FLATTEN, dense(3)], samples=3)
    for name, shape, samples in [("features", [7], 5), ("steps", [5, 3], 4), ("wide", [37], 3), ("one sample", [3, 18], 1)]:
        yield case(f"layer norm, {name}", shape, [
            {"layer_norm": {}}, activation("tanh"), {"layer_norm": {"epsilon": 0.01}}, FLATTEN, dense(3)], samples=samples)
    yield case("layer norm after a layer with parameters", [4, 3], [
        dense(6), {"layer_norm": {}}, dense(5, activation="relu"), FLATTEN, dense(3)], "cross_entropy")
    for groups in [1, 2, 3, 6]:
        yield case(f"group norm in {groups}", [2, 5, 7], [
            conv(6, 3, activation="tanh"), {"group_norm": {"groups": groups, "epsilon": 0.002}}, FLATTEN, dense(3)],
            "cross_entropy", samples=4)
    yield case("group norm of a sequence", [4, 9], [{"group_norm": {"groups": 2}}, activation("tanh"), FLATTEN, dense(3)])
    yield case("group norm of features", [12], [dense(12), {"group_norm": {"groups": 3}}, activation("tanh"), dense(3)])
    yield case("group norm in 32", [3, 3, 2], [conv(64, 2), {"group_norm": {}}, FLATTEN, dense(3)], samples=2, scale=0.2)
    yield case("instance norm", [3, 5, 4], [
        {"instance_norm": {}}, conv(3, 2, activation="tanh"), {"instance_norm": {"epsilon": 0.1}}, FLATTEN, dense(3)], samples=3)
    yield case("instance norm of a sequence", [3, 17], [
        activation("tanh"), {"instance_norm": {}}, FLATTEN, dense(3)])


def main():
    lines = [json.dumps(c, separators=(",", ":")) for cases in [norms, recurrent, attention] for c in cases()]
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
