"""spikeswap: trained networks in, spiking networks out, with an honest account of the cost."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spikeswap.snn import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name):
    if name == "load":  # on demand (PEP 562), so that `import spikeswap` costs nothing
        from spikeswap.snn import load

        return load
    raise AttributeError(f"module 'spikeswap' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), "load"})
