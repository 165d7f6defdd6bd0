from experiments.command import stoppable

if __name__ == "__main__":
    with stoppable():
        from experiments.study.run import main

        main()
