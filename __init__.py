"""spikeswap: trained networks in, spiking networks out, with an honest account of the cost."""

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name):
    """Import on demand (PEP 562), so that `import spikeswap` costs nothing."""
    if name == "load":
        from spikeswap.snn import load

        return load
    raise AttributeError(f"module 'spikeswap' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), "load"})
