"""A small network in Keras on two rings, which are generated."""

import argparse

import keras
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.01)
args = parser.parse_args()

keras.utils.set_random_seed(0)
angle = np.random.rand(600) * 2 * np.pi
label = np.arange(600) % 2
points = np.stack([np.cos(angle), np.sin(angle)], 1) * (1 + label)[:, None]
points = (points + np.random.randn(600, 2) * 0.2).astype("float32")

model = keras.Sequential(
    [
        keras.Input((2,)),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dense(2, activation="softmax"),
    ]
)
model.compile(
    keras.optimizers.Adam(args.lr), "sparse_categorical_crossentropy", metrics=["accuracy"]
)
model.fit(
    points,
    label,
    epochs=9,
    batch_size=4,
    validation_split=0.3,
    verbose=2,
)
