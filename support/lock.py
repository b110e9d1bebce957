"""A lock that may lie in a network: networks are copied and pickled."""

import threading


class Lock:
    """`with lock:` lets one thread at a time in, the same one as often as it asks."""

    def __init__(self):
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *failure) -> None:
        self._lock.release()

    def __reduce__(self):
        """A copy is a lock of its own."""
        return Lock, ()
