"""Loads the class of a plugin file, by the rules by which Pylantir finds it in a plugin folder."""

from __future__ import annotations

import os
from pathlib import Path

from pylantir.data_sources.base import DataSourcePlugin
from pylantir.data_sources.registry import load_class, types_in_file
from pylantir.errors import PluginError


def load_plugin_class(path: str | os.PathLike[str], type_name: str | None = None) -> type[DataSourcePlugin]:
    """Load the plugin class of a file.

    Args:
        path: The `.py` file.
        type_name: Which plugin, where the file defines several.

    Raises:
        PluginError: The file offers no plugin, or not this one.
        Exception: Whatever the file raises when it is imported.
    """
    where = str(Path(path).absolute())
    types = {one.type_name: one for one in types_in_file(where)}
    if type_name is None and len(types) > 1:
        raise PluginError(f"{where}: defines several plugins; name one: {', '.join(types)}")
    chosen = types.get(type_name) if type_name else next(iter(types.values()))
    if chosen is None:
        raise PluginError(f'{where}: defines no plugin "{type_name}"; there are: {", ".join(types)}')
    loaded = load_class(chosen)
    if not issubclass(loaded, DataSourcePlugin):
        raise PluginError(f"{where}: {loaded.__name__} is not derived from DataSourcePlugin")
    return loaded
