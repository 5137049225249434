"""`python -m mentorgym.benchmarks.soak` is `mentorgym soak`."""

from mentorgym.benchmarks.driving.soak import main

if __name__ == "__main__":
    main()
