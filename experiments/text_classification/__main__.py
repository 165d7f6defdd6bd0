import sys

from experiments.command import main, stoppable

if __name__ == "__main__":
    if sys.argv[1:2] == ["predict"]:
        with stoppable():
            from experiments.text_classification.predict import main as predict

            predict(sys.argv[2:])
    elif sys.argv[1:2] == ["table"]:
        with stoppable():
            from experiments.text_classification.join import main as join

            join(sys.argv[2:])
    else:
        main("text_classification")
