"""The runs of a study: what each overrides, its config and its directory."""

from pathlib import Path
from typing import Any, NamedTuple

from experiments.experiment import Experiment
from experiments.study.config import Study
from rnn_jax import config as configs
from rnn_jax import results
from rnn_jax.overrides import Overrides, read_overrides


class Point(NamedTuple):
    """One run of a study."""

    overrides: Overrides  # what it sets beside the study's own config, as the config holds it
    config: Any  # the experiment's, overrides applied
    directory: Path  # out/<experiment>-<hash of the config>

    @property
    def name(self) -> str:
        """What people read of it: its overrides."""
        words = (f"{key} {as_word(value)}" for key, value in self.overrides.items())
        return ", ".join(words) or "the config as it is"


def as_word(value: Any) -> str:
    """Write the value of a setting; a list by its entries."""
    if isinstance(value, tuple | list):
        return " ".join(map(as_word, value))
    return "none" if value is None else str(value)


def points_of(study: Study, experiment: Experiment, out: Path) -> list[Point]:
    """Make every run's config, strictly; ValueError of one line that says which run is wrong."""
    points: list[Point] = []
    known: dict[Path, int] = {}
    for number, overrides in enumerate(read_overrides(study.overrides), 1):
        try:
            config = configs.from_tree(experiment.config_class, study.config | overrides)
        except ValueError as error:
            raise ValueError(f"run {number}: {error}") from None
        directory = results.run_directory(out, experiment.name, config)
        if directory in known:
            raise ValueError(
                f"runs {known[directory]} and {number} are the same; allowed: every run once"
            )
        known[directory] = number
        kept = {name: getattr(config, name) for name in overrides}
        points.append(Point(kept, config, directory))
    return points


def study_directory(study: Study, out: Path) -> Path:
    """Name the directory of what all runs came to: out/study-<hash of the file's content>."""
    return out / f"study-{configs.content_hash(study)}"


class Runs(NamedTuple):
    """A study, laid out."""

    study: Study
    experiment: Experiment
    points: list[Point]
    directory: Path
