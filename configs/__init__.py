"""Defaults and recipes of the commands in tools/ (the only readers of a config)."""

from .defaults import default_config, get_config, list_configs, save_config

__all__ = ["default_config", "get_config", "list_configs", "save_config"]
