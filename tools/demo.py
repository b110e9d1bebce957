"""Show the report of a trained network that comes with the package, and of two conversions of it."""

import _door

if __name__ == "__main__":
    _door.run("demo")
