"""The commands: parse, read the config, call the library, save."""
