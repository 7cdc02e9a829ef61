"""Lists the source types, and loads a source's plugin.

`discover` runs in the configuration check: in come plugin folders, out goes a `Catalogue`; plugin files are
parsed, never run. `load_source` runs in the one process that needs a source's plugin, and imports it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import ModuleType

from pylantir.data_sources.base import DataSourcePlugin
from pylantir.errors import PluginError, PylantirError, kind_of
from pylantir.settings import Catalogue, PluginProblem, PluginType, SourceSettings

ENTRY_POINT_GROUP = "pylantir.data_sources"


def _builtin(type_name: str, module: str, class_name: str, targets: tuple[str, ...] = ()) -> PluginType:
    module = f"pylantir.data_sources.{module}"
    return PluginType(type_name=type_name, module=module, class_name=class_name, targets=targets, builtin=True)


BUILTIN_TYPES = (
    _builtin("csv", "csv_file", "CsvPlugin"),
    _builtin("json", "json_file", "JsonPlugin"),
    _builtin("redcap", "redcap.source", "RedcapPlugin", ("study_id", "session_id", "family_id")),
    _builtin("sql", "sql", "SqlPlugin"),
)


def discover(plugin_dirs: Iterable[str]) -> Catalogue:
    """List the source types: built in, from installed packages, and from `.py` files in the given folders.

    Args:
        plugin_dirs: Folders, searched without their subfolders; an absent one holds nothing. Files whose
            names start with `_` or `.` are no plugins.

    Returns:
        The types that can be used, and why the other files cannot. A type claimed twice is dropped.
    """
    problems: list[PluginProblem] = []
    types = {plugin_type.type_name: plugin_type for plugin_type in BUILTIN_TYPES}
    disputed: set[str] = set()
    found = [*_installed_types(problems)]
    for path in _plugin_files(plugin_dirs, problems):
        try:
            found += types_in_file(path)
        except Unusable as error:
            problems.append(PluginProblem(path=path, reason=str(error)))
    for plugin_type in found:
        name, origin = plugin_type.type_name, plugin_type.origin
        other = types.get(name)
        if other is None:
            types[name] = plugin_type
        elif other.builtin:
            reason = f'the type "{name}" is built in; rename the file or set another type_name'
            problems.append(PluginProblem(path=origin, reason=reason))
        else:
            disputed.add(name)
            reason = f'the type "{name}" is also defined by {other.origin}; neither is used, rename one'
            problems.append(PluginProblem(path=origin, reason=reason))
    usable = {name: plugin_type for name, plugin_type in types.items() if name not in disputed}
    return Catalogue(types=usable, problems=tuple(problems))


def load_plugin(plugin_type: PluginType) -> DataSourcePlugin:
    """Import a plugin and make its instance. Runs other people's code: call it in a worker only.

    A file's folder is put at the end of the module search path: it can import helper modules beside it.

    Raises:
        PluginError: The import, the class or its constructor failed; the message names plugin, file and cause, and
            does not quote the plugin's own exception, which may quote a patient.
    """
    try:
        plugin = load_class(plugin_type)()
    except BaseException as error:
        msg = f'plugin "{plugin_type.type_name}" ({plugin_type.origin}) cannot be loaded: {_describe(error)}'
        raise PluginError(msg) from error
    if not isinstance(plugin, DataSourcePlugin):
        msg = f'plugin "{plugin_type.type_name}" ({plugin_type.origin}): its class is no DataSourcePlugin'
        raise PluginError(msg)
    return plugin


def _describe(error: BaseException) -> str:
    """Say what kept a plugin from loading; with the exception's message only if no code of the plugin raised it."""
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return f"{type(error).__name__}: {error}" if frame.f_code.co_filename == __file__ else kind_of(error)


def load_class(plugin_type: PluginType) -> type:
    """Import a plugin; raises what its module raises."""
    path, name = plugin_type.path, plugin_type.module or ""
    module = _import_file(path) if path else importlib.import_module(name)
    return _plugin_class(module, plugin_type.class_name)


def load_source(source: SourceSettings) -> DataSourcePlugin:
    """Load a source's plugin, and pass it the source's keys that concern its records.

    Raises:
        PluginError: As `load_plugin`.
    """
    plugin = load_plugin(source.plugin)
    pass_settings(plugin, source)
    return plugin


def ask_validity(plugin: DataSourcePlugin, source: SourceSettings) -> tuple[bool, str]:
    """Let a plugin check its source's `config`.

    Returns:
        Whether it can be used, and if not, the plugin's message.

    Raises:
        PluginError: The answer has another form.
        Exception: Whatever the plugin raises.
    """
    answer = plugin.validate_config(dict(source.config))
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        kind = source.plugin
        msg = f'plugin "{kind.type_name}" ({kind.origin}): validate_config has to return (True or False, message)'
        raise PluginError(msg)
    is_valid, message = answer
    return bool(is_valid), str(message)


def pass_settings(plugin: DataSourcePlugin, source: SourceSettings) -> None:
    """Set the attributes that `map_record` needs."""
    plugin.empty_values, plugin.where = source.empty_values, source.where
    plugin.timezone = source.timezone or ""


class Unusable(PylantirError):
    """Why a file is no plugin."""


def _installed_types(problems: list[PluginProblem]) -> Iterator[PluginType]:
    from importlib.metadata import entry_points

    for name, value in sorted((point.name, point.value) for point in entry_points(group=ENTRY_POINT_GROUP)):
        module, _, class_name = (part.strip() for part in value.partition(":"))
        if module:
            yield PluginType(type_name=name, module=module, class_name=class_name or None)
        else:
            reason = f'expected "module:Class", got "{value}"'
            problems.append(PluginProblem(path=f"entry point {name}", reason=reason))


def _plugin_files(plugin_dirs: Iterable[str], problems: list[PluginProblem]) -> Iterator[str]:
    for folder in dict.fromkeys(os.path.abspath(plugin_dir) for plugin_dir in plugin_dirs):
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            continue
        except OSError as error:
            problems.append(PluginProblem(path=folder, reason=f"cannot be searched: {error.strerror}"))
            continue
        for name in names:
            if name.endswith(".py") and not name.startswith(("_", ".")):
                yield os.path.join(folder, name)


def types_in_file(path: str) -> list[PluginType]:
    """Read a plugin file's classes without running it.

    Raises:
        Unusable: The file offers no plugin; the text says why.
    """
    import hashlib

    try:
        with open(path, "rb") as file:
            content = file.read()
        tree = ast.parse(content, filename=path)
    except SyntaxError as error:
        msg = f"line {error.lineno}: {error.msg}"
        raise Unusable(msg) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unusable(f"not a Python file: {error}") from None
    except OSError as error:
        raise Unusable(f"cannot be read: {error.strerror}") from None

    classes = _plugin_classes(tree)
    if not classes:
        raise Unusable("defines no class derived from pylantir.data_sources.base.DataSourcePlugin")
    types = []
    digest = hashlib.sha256(content).hexdigest()
    for node in classes:
        name = _literal(node, "type_name") or _stem(path)
        targets = _literal(node, "targets") or ()
        if not isinstance(name, str):
            raise Unusable(f"{node.name}.type_name has to be text")
        if not isinstance(targets, tuple | list) or not all(isinstance(target, str) for target in targets):
            raise Unusable(f"{node.name}.targets has to be a tuple of texts")
        types.append(PluginType(type_name=name, path=path, class_name=node.name, targets=tuple(targets), digest=digest))
    if len({plugin_type.type_name for plugin_type in types}) < len(types):
        names = ", ".join(node.name for node in classes)
        raise Unusable(f"defines several plugins ({names}); give each a type_name of its own")
    return types


def _plugin_classes(tree: ast.Module) -> list[ast.ClassDef]:
    """Find the classes that derive from DataSourcePlugin and that no other class of the file derives from."""
    plugin_names = {"DataSourcePlugin"}
    plugins: list[ast.ClassDef] = []
    parents: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pylantir.data_sources"):
            names = [alias for alias in node.names if alias.name.endswith("Plugin")]
            plugin_names |= {alias.asname or alias.name for alias in names}
        elif isinstance(node, ast.ClassDef):
            bases = {getattr(base, "attr", "") or getattr(base, "id", "") for base in node.bases}
            if bases & plugin_names:
                plugin_names.add(node.name)
                plugins.append(node)
                parents |= bases
    return [node for node in plugins if node.name not in parents]


def _literal(node: ast.ClassDef, attribute: str) -> object:
    """Read a class attribute's literal value; None if the class body does not set it."""
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign) and statement.value:
            targets = [statement.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == attribute for target in targets):
            try:
                return ast.literal_eval(statement.value)  # type: ignore[arg-type]
            except ValueError:
                raise Unusable(f"{node.name}.{attribute} has to be a literal") from None
    return None


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _import_file(path: str) -> ModuleType:
    """Import a file under a name of our own, so that it shadows no installed module."""
    name = f"pylantir_plugin_{_stem(path)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"not a Python file: {path}")
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.append(folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: @dataclass and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _plugin_class(module: ModuleType, class_name: str | None) -> type:
    if class_name:
        return getattr(module, class_name)  # type: ignore[no-any-return]
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    own = [c for c in classes if issubclass(c, DataSourcePlugin) and c.__module__ == module.__name__]
    if len(own) != 1:
        raise TypeError(f"expected one class derived from DataSourcePlugin, found {len(own)}")
    return own[0]
