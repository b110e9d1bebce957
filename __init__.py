"""spikeswap: trained networks in, spiking networks out, with an honest account of the cost."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spikeswap.pretrained import list_pretrained, load_pretrained
    from spikeswap.snn import load
__version__ = "0.1.0"
__all__ = ["__version__", "list_pretrained", "load", "load_pretrained"]


def __getattr__(name):
    if name in __all__:  # on demand (PEP 562), so that `import spikeswap` costs nothing
        from importlib import import_module as room

        return getattr(room(f"spikeswap.{'snn' if name == 'load' else 'pretrained'}"), name)
    raise AttributeError(f"module 'spikeswap' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
