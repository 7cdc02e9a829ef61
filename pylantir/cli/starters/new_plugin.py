"""`pylantir new-plugin`: writes a plugin that works as it stands, and its test."""

from __future__ import annotations

import argparse
import json
import keyword
import os
from pathlib import Path

from pylantir.cli.starters.files import refuse_existing, write_new
from pylantir.cli.starters.plugin_text import plugin_test_text, plugin_text
from pylantir.config.document import read_document
from pylantir.config.locate import find_configuration, resolve_path
from pylantir.data_sources.registry import BUILTIN_TYPES, discover
from pylantir.errors import ConfigurationError, ExitStatus, WrongUsage

_DEFAULT_FOLDER = "plugins"


def write_plugin(options: argparse.Namespace) -> int:
    """Write `plugins/NAME.py` beside the configuration, and `plugins/tests/test_NAME.py`.

    Raises:
        WrongUsage: The name cannot be a plugin's.
        PylantirError: One of the files exists already.
    """
    name = options.name
    check_name(name)
    folder = _plugin_folder(find_configuration(options.config, os.environ))
    other = discover([str(folder)]).types.get(name)
    plugin, test = folder / f"{name}.py", folder / "tests" / f"test_{name}.py"
    if other is not None and other.path != str(plugin):
        raise WrongUsage(f'there is a source type "{name}" already ({other.origin}); choose another name')
    refuse_existing(plugin, test)
    test.parent.mkdir(parents=True, exist_ok=True)
    write_new(plugin, plugin_text(name))
    write_new(test, plugin_test_text(name, _from_here(test)))
    source = {
        "name": f"my_{name}",
        "type": name,
        "config": {"file_path": "bookings.jsonl"},
        "field_mapping": {"patient": "patient_id", "start": "scheduled_start"},
        "defaults": {"modality": "MR"},
    }
    print(f"written: {plugin}\nwritten: {test}")
    print(f"next: pytest {_from_here(test)}\nthen, in data_sources:\n{json.dumps(source)}")
    return ExitStatus.OK


def check_name(name: str) -> None:
    """Check that a name can be a plugin file's and a source type's.

    Raises:
        WrongUsage: It cannot.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise WrongUsage(f'"{name}" cannot be a plugin\'s name: expected letters, digits and _, as in booking_system')
    if name.startswith("_"):
        raise WrongUsage(f'"{name}": files that begin with _ are not taken for plugins; choose another name')
    if name.lower() in {one.type_name for one in BUILTIN_TYPES}:
        raise WrongUsage(f'the source type "{name.lower()}" is built in; choose another name')


def _plugin_folder(config_path: Path) -> Path:
    """Return the first folder of `plugin_dirs`; a configuration that is invalid elsewhere does not matter here."""
    try:
        document, _ = read_document(config_path)
    except ConfigurationError:
        document = {}
    configured = document.get("plugin_dirs")
    folders = [one for one in configured if isinstance(one, str) and one] if isinstance(configured, list) else []
    paths = [resolve_path(one, config_path.parent) for one in folders]
    default = config_path.parent / _DEFAULT_FOLDER
    return paths[0] if paths and default not in paths else default


def _from_here(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
