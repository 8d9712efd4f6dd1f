"""Networks of torchvision with drawn weights: their state dicts, an input and what they put out, for a test to compare.

    python deploy/check/architectures.py FOLDER
"""

import json
import sys
from pathlib import Path

import torch
import torchvision
from safetensors.torch import save_file

# Word here, torchvision's function, side of the images.
NETWORKS = [
    ("alexnet", "alexnet", 95),
    ("googlenet", "googlenet", 64),
    ("inception_v3", "inception_v3", 96),
    ("mobilenet_v2", "mobilenet_v2", 64),
    ("efficientnet_b0", "efficientnet_b0", 64),
    ("vgg11", "vgg11", 64),
    ("vgg16", "vgg16", 50),
    ("vgg19", "vgg19", 50),
    ("resnet18", "resnet18", 64),
    ("resnet34", "resnet34", 49),
    ("resnet50", "resnet50", 64),
    ("resnet101", "resnet101", 40),
]
CLASSES = 7
SAMPLES = 2


def drawn(name: str) -> torch.nn.Module:
    extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES, **extra)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0.0, 0.1)
            module.running_mean.normal_(0.0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for word, name, side in NETWORKS:
        torch.manual_seed(len(word) + side)
        network = drawn(name)
        shape = [3, side, side]
        features = torch.randn(SAMPLES, *shape)
        network.double()
        with torch.no_grad():
            # Scores of about 3, so that no class has all of the probability.
            last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
            scale = 3.0 / network(features.double()).abs().max()
            last.weight *= scale
            last.bias *= scale
            network.float().double()
            expected = network(features.double())
        network.float()
        state = {key: value.contiguous() for key, value in network.state_dict().items()}
        save_file(state, folder / f"{word}.safetensors")
        case = {
            "architecture": {word: {"classes": CLASSES}},
            "shape": shape,
            "features": features.flatten().tolist(),
            "expected": expected.flatten().tolist(),
        }
        (folder / f"{word}.json").write_text(json.dumps(case))
        print(word, sum(value.numel() for value in network.parameters()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
