"""`python -m mentorgym` is `mentorgym`."""

from mentorgym.cli import main

if __name__ == "__main__":
    main()
