"""`python -m mentorgym.benchmarks.decide` is `mentorgym decide`."""

from mentorgym.benchmarks.captions.decide import main

if __name__ == "__main__":
    main()
