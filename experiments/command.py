"""The command line of every experiment."""


def main(name: str) -> None:
    """Run ``python -m experiments.<name>``."""
    from experiments import experiment, running

    running.main(experiment.load(name))
