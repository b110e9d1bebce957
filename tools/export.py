"""Write a conversion for another simulator or chip, read it back there, and grade what it does."""

import _door

if __name__ == "__main__":
    _door.run("export")
