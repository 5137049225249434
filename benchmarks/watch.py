"""`python -m mentorgym.benchmarks.watch` is `mentorgym watch`."""

from mentorgym.benchmarks.driving.watch import main

if __name__ == "__main__":
    main()
