"""A forest on the handwritten digits that come with scikit-learn."""

import argparse

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
import trainyard as ty

parser = argparse.ArgumentParser()
parser.add_argument("--depth", type=int, default=8)
parser.add_argument("--features", type=float, default=0.2)
args = parser.parse_args()

x, y = load_digits(return_X_y=True)
forest = RandomForestClassifier(
    n_estimators=20, max_depth=args.depth, max_features=args.features, random_state=0
)
scores = cross_val_score(forest, x, y, cv=3)
ty.report({"accuracy": scores.mean(), "spread": scores.std()})
