"""Try many conversions of a run on images set apart, and say which one is the cheapest good one."""

import _door

if __name__ == "__main__":
    _door.run("frontier")
