"""What all commands share: flags, messages, exit status (found as `_cli`, for it lies beside).

Nothing heavy is imported before the flags are right, so `--help` and typing errors answer at once.
"""

import argparse
import contextlib
import logging
import math
import os
import signal
import sys
from pathlib import Path

USER_ERROR = 2
DEPENDENCIES = set(
    "torch torchvision timm numpy yacs mlxtend safetensors tqdm matplotlib jinja2 PIL spikingjelly "
    "tensorboard".split()
)


class Parser(argparse.ArgumentParser):
    """Errors end with status 2 and the message as the last line; unknown flags list near ones."""

    def __init__(self, description: str, **arguments):
        super().__init__(description=description, allow_abbrev=False, **arguments)

    def parse_args(self, args=None, namespace=None):
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for flag in unknown if flag.startswith("-")] or unknown
            known = [flag for action in self._actions for flag in action.option_strings]
            hints = [f"{flag} ({_near_names(flag.split('=')[0], known)})" for flag in flags]
            self.error(
                f"unknown flag: {', '.join(hints)}"
                if flags[0].startswith("-")
                else f"unexpected word: {' '.join(unknown)} (a flag starts with --; see --help)"
            )
        return parsed

    def error(self, message: str):
        self.exit(USER_ERROR, f"{self.format_usage()}{self.prog}: error: {message}\n")

    def common(self) -> "Parser":
        """Add the flags that every command has."""
        self.add_argument(
            "--device",
            default="auto",
            metavar="auto|cpu|cuda[:i]",
            help="where to compute; auto: a GPU if there is one (default: auto)",
        )
        self.add_argument(
            "--seed",
            type=whole_number(0, "a seed"),
            default=None,
            metavar="N",
            help="of all random numbers (default: the recipe's)",
        )
        return self


def _near_names(flag: str, known: list[str]) -> str:
    try:
        from ..support.messages import near_names
    except ModuleNotFoundError as missing:
        return _how_to_install(missing)
    return near_names(flag, known)


def whole_number(least: int, what: str, example: int | None = None):
    """An argparse type: a whole number of at least `least`."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < least:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {what}: it must be a whole number of "
                f"at least {least}; e.g. {example or max(least, 1)}"
            )
        return number

    return convert


def timesteps(text: str) -> int:
    """T: time steps per image."""
    return whole_number(1, "T, the number of time steps per image", 128)(text)


def timestep_list(text: str) -> list[int]:
    """1,2,4,8: several T."""
    return sorted({timesteps(part.strip()) for part in text.split(",")})


def real_number(low: float, high: float, what: str, closed_low: bool = True):
    """An argparse type: a number in [low, high) or (low, high)."""
    interval = f"{'[' if closed_low else '('}{low:g}, {high:g})"

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (low <= number < high) or (number == low and not closed_low):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {what}: it must be a number in {interval}"
            )
        return number

    return convert


def confidence(text: str) -> float:
    """A probability in (0, 1]."""
    return 1.0 if text.strip() in ("1", "1.0") else real_number(0, 1, "a confidence", False)(text)


def numbers(text: str) -> list[float]:
    """One number per channel, or one for all: 0.5 or 0.485,0.456,0.406."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in (1, 3) or not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be one number or three with commas between, e.g. 0.485,0.456,0.406"
        )
    return found


mask_ratio = real_number(0, 1, "a mask ratio (share of spikes dropped)")


def run_command(command, parser: Parser) -> None:
    """Parse, run, and turn what the user can mend into status 2 with the message last.

    Anything else is a bug of ours and keeps its traceback; SPIKESWAP_TRACEBACK=1 shows it always.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    arguments = parser.parse_args()
    torch = _import_package(parser)
    try:
        command(arguments)
    except KeyboardInterrupt:
        _fail(parser, "interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except torch.OutOfMemoryError as error:
        _fail(
            parser,
            f"out of GPU memory ({' '.join(str(error).split())[:120]}); use a smaller "
            "--batch-size, or --chunk where there is one",
        )
    except ModuleNotFoundError as missing:
        if missing.name.split(".")[0] not in DEPENDENCIES:
            raise
        _fail(parser, _how_to_install(missing))
    except (ValueError, OSError) as error:
        if os.environ.get("SPIKESWAP_TRACEBACK") == "1":
            raise
        named = isinstance(error, OSError) and error.filename and error.strerror
        _fail(parser, f"{error.filename}: {error.strerror}" if named else str(error))
    finally:
        with contextlib.suppress(RuntimeError):
            _distributed().stop_process_group()


def _import_package(parser: Parser):
    """Import PyTorch and spikeswap, set up logging; or say how to install them. Returns torch."""
    # Idle OpenMP threads sleep instead of spinning: on a busy machine spinning ones stall each
    # other on small tensors, several times slower than one thread.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import torch

        distributed = _distributed()
    except ModuleNotFoundError as missing:
        _fail(parser, _how_to_install(missing))
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: distributed.is_main() or record.levelno > logging.WARNING)
    logger = logging.getLogger("spikeswap")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    logging.getLogger("spikeswap.train").setLevel(logging.INFO)
    torch.set_flush_denormal(True)  # tiny numbers cost tens of times more and mean nothing here
    return torch


def _how_to_install(missing: ModuleNotFoundError) -> str:
    folder = Path(__file__).resolve().parent.parent
    return (
        f"the module {missing.name!r} is not installed; install everything with: "
        f"{sys.executable} -m pip install -e '{folder}'"
    )


def _distributed():
    from .. import distributed

    return distributed


def _interrupt(number, frame):
    raise KeyboardInterrupt


def _fail(parser: Parser, message: str, status: int = USER_ERROR):
    sys.stdout.flush()
    head, *details = message.strip().splitlines() or ["unknown error"]
    for line in details:
        print(line, file=sys.stderr)
    print(f"{parser.prog}: error: {head}", file=sys.stderr, flush=True)
    sys.exit(status)


def start(arguments):
    """The device, with the process group of torchrun joined if there is one."""
    distributed = _distributed()
    device = distributed.choose_device(arguments.device)
    distributed.start_process_group(device)
    return device


def say(text: str = "") -> None:
    """Print a line of the command's answer (main process only)."""
    if _distributed().is_main():
        print(text, flush=True)


def say_settings(settings: dict[str, tuple]) -> None:
    """Print which settings are used, each with where it comes from.

    Args:
        settings: name -> (value, origin); origin e.g. "given", "recipe", "default".
    """
    width = max(len(name) for name in settings)
    for name, (value, origin) in settings.items():
        say(f"  {name:<{width}}  {value}  ({origin})")
