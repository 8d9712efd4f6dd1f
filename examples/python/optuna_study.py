"""Hyperparameters of a support vector machine, found by a study in this process."""

import trainyard.optuna as optuna
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

x, y = load_digits(return_X_y=True)


def objective(trial):
    kernel = trial.suggest_categorical("kernel", ["linear", "rbf"])
    options = {"C": trial.suggest_float("C", 0.01, 100, log=True)}
    if kernel == "rbf":
        options["gamma"] = trial.suggest_float("gamma", 1e-5, 1e-1, log=True)
    return cross_val_score(SVC(kernel=kernel, **options), x[:400], y[:400], cv=3).mean()


study = optuna.create_study(direction="maximize")
study.optimize(objective, n_trials=20)
print(study.best_value, study.best_params)
