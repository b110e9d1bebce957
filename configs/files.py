"""Where recipes lie and how they are read."""

from pathlib import Path

import yaml

from ..support.files import MOST_LEVELS, check_tree, read_text
from ..support.messages import near_names, reason

MOST_BYTES = 2**18  # of a recipe
MOST_ALIASES = 8  # in a recipe; many would let a few lines stand for millions
# What PyYAML raises on what is no YAML, or no value of the type that it names.
_NO_YAML = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


def known_configs(folder: Path) -> list[str]:
    """Stems of the recipes in a folder and its sub-folders, sorted."""
    return sorted(
        {path.stem for pattern in ("*.yaml", "*/*.yaml") for path in folder.glob(pattern)}
    )


def find_config(name_or_path, folder: Path) -> Path:
    """The file that a bare name or a path means; ValueError lists near names."""
    given = Path(name_or_path).expanduser()
    if not given.name or given.is_dir():
        raise ValueError(f"config {str(name_or_path)!r} is a folder; name a .yaml file")
    spellings = (
        [given] if given.suffix in (".yaml", ".yml") else [given.with_name(given.name + ".yaml")]
    )
    spellings += [given] if given not in spellings else []
    bare = given.parent == Path(".") and not str(name_or_path).startswith(".")
    for spelling in spellings:
        candidates = [spelling]
        if not given.is_absolute() and not str(name_or_path).startswith("."):
            beside = [
                folder / spelling,
                *(sorted(folder.glob(f"*/{spelling.name}")) if bare else []),
            ]
            candidates = beside + candidates if bare else candidates + beside
        for candidate in candidates:
            if candidate.is_file():
                return candidate
    if bare:
        hint = near_names(given.stem, known_configs(folder))
        raise ValueError(
            f"unknown config {str(name_or_path)!r}; {hint}; or give a path to a .yaml file"
        )
    hint = near_names(given.stem, known_configs(folder))
    raise ValueError(f"config file {str(name_or_path)!r} does not exist; recipes by name: {hint}")


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file; ValueError for anything else."""
    text = read_text(path, "config", "name a small .yaml file", MOST_BYTES)
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"config {str(path)!r} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(
            f"config {str(path)!r} holds a {type(content).__name__}, not KEY: VALUE lines; "
            "see configs/swin_t_bn.yaml for the form"
        )
    return content


def parse_yaml(text: str):
    """The value in a YAML text; ValueError for what is none, or grows when it is written out."""
    try:
        _check_events(text)
        return check_tree(yaml.safe_load(text))
    except _NO_YAML as error:
        raise ValueError(reason(error)) from error


def _check_events(text: str) -> None:
    """ValueError before a few lines become millions of values, or hold PyYAML for hours."""
    aliases = depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if aliases > MOST_ALIASES:
            raise ValueError(f"more than {MOST_ALIASES} aliases (*name); write the values out")
        if depth > MOST_LEVELS:
            raise ValueError(f"more than {MOST_LEVELS} lists within lists")
