"""Logistic regressions on counts of words or pairs: what needs no recurrence (scikit-learn).

bag-of-words: tf-idf of single tokens; bigrams: of single tokens and neighbouring pairs. Tokens are
words and single signs, of as much of a text as the networks read. The strength of the penalty is
chosen on the validation split, as the networks' learning rate is.
"""

import importlib.util
import sys
import warnings
from collections.abc import Callable

import numpy as np

from experiments.text_classification.config import YARDSTICKS, Config
from rnn_jax.data import TextData, Texts, cut_text

TOKEN = r"\w+|[^\w\s]"
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # C, the inverse of the penalty


def warn_if_missing(config: Config) -> None:
    """Say that the yardsticks stay unknown where scikit-learn is not installed."""
    asked = [model for model in config.models if model in YARDSTICKS]
    if asked and importlib.util.find_spec("sklearn") is None:
        print(
            f"scikit-learn is not installed: {' and '.join(asked)} stay unknown in this run "
            "(the extra text has it: scripts/setup.sh text; then --force)",
            file=sys.stderr,
        )


def fit(
    config: Config, name: str, data: TextData, say: Callable[[str], None] = print
) -> dict[str, float]:
    """Fit a yardstick: accuracy and loss (nats a text) on validation and test, parameters.

    Returns nothing where scikit-learn is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        return {}
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    sizes = (1, 1) if name == "bag-of-words" else (1, 2)
    vectorizer = TfidfVectorizer(
        token_pattern=TOKEN, ngram_range=sizes, min_df=2, sublinear_tf=True
    )
    splits = {split: _as_read(config, given) for split, given in data.splits.items()}
    try:
        features = {"train": vectorizer.fit_transform(splits["train"].texts)}
    except ValueError as error:  # no token occurs in two texts, say
        say(f"not fitted: {str(error).splitlines()[0]}")
        return {}
    features |= {
        split: vectorizer.transform(splits[split].texts) for split in ("validation", "test")
    }
    best: dict[str, float] = {}
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=300)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one that has not quite converged is a candidate too
            model.fit(features["train"], splits["train"].labels)
        accuracy, loss = _evaluate(model, features["validation"], splits["validation"].labels)
        if not best or accuracy > best["best_validation_accuracy"]:
            test_accuracy, test_loss = _evaluate(model, features["test"], splits["test"].labels)
            best = {
                "best_validation_accuracy": accuracy,
                "best_validation_loss": loss,
                "test_accuracy": test_accuracy,
                "test_loss": test_loss,
                "num_parameters": model.coef_.size + model.intercept_.size,
            }
    return best


def _as_read(config: Config, given: Texts) -> Texts:
    """Cut the texts where the networks stop reading."""
    texts = [cut_text(config.encoding, text, config.max_length) for text in given.texts]
    return given._replace(texts=texts)


def _evaluate(model, features, labels: np.ndarray) -> tuple[float, float]:
    """Return accuracy and cross-entropy in nats a text; inf at a class that was never seen."""
    probabilities = model.predict_proba(features)
    columns = {label: i for i, label in enumerate(model.classes_)}
    of_label = np.array(
        [
            row[columns[y]] if y in columns else 0.0
            for row, y in zip(probabilities, labels, strict=True)
        ]
    )
    accuracy = np.mean(model.classes_[probabilities.argmax(1)] == labels)
    with np.errstate(divide="ignore"):
        return float(accuracy), float(-np.mean(np.log(of_label)))
