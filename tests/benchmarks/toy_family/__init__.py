"""A family of environments from outside the package: guessing a number."""
