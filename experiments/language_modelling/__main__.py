import importlib
import sys
from pathlib import Path

from experiments.command import main, stoppable

READERS = ("evaluate", "generate", "score")  # of a run
TRAIN = Path(__file__).parent / "presets" / "train.json"

if __name__ == "__main__":
    command, *arguments = sys.argv[1:] or [""]
    if command in READERS:
        with stoppable():
            module = importlib.import_module(f"experiments.language_modelling.{command}")
            module.main(arguments)
    elif command == "train":
        has_own = any(argument.partition("=")[0] == "--config" for argument in arguments)
        sys.argv[1:] = [*([] if has_own else ["--config", str(TRAIN)]), *arguments]
        main("language_modelling")
    elif command and not command.startswith("-"):
        allowed = ", ".join(("train", *READERS))
        print(f"error: command is {command!r}; allowed: {allowed}, or none", file=sys.stderr)
        sys.exit(2)
    else:
        main("language_modelling")
