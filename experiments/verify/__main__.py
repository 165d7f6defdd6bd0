from experiments.command import stoppable

if __name__ == "__main__":
    with stoppable():
        from experiments.verify.run import main

        main()
