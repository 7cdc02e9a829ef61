"""Which plugin files are found, why others are not, and what loading one does."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pylantir.data_sources.base import DataSourcePlugin
from pylantir.data_sources.registry import ask_validity, discover, load_plugin
from pylantir.errors import PluginError
from pylantir.settings import Catalogue, PluginType, SourceSettings

IMPORT = "from pylantir.data_sources.base import DataSourcePlugin\n"
METHODS = """
    def validate_config(self, config): return True, ""
    def fetch_entries(self, field_mapping, interval): return []
    def get_source_name(self): return "test"
"""
PLUGIN = IMPORT + "class Plugin(DataSourcePlugin):" + METHODS


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def find(folder: Path, **files: str) -> Catalogue:
    for stem, text in files.items():
        (folder / f"{stem}.py").write_text(text, encoding="utf-8")
    return discover([str(folder)])


def custom(catalogue: Catalogue) -> dict[str, PluginType]:
    return {name: found for name, found in catalogue.types.items() if not found.builtin}


def test_the_built_in_types_are_always_there() -> None:
    catalogue = discover([])
    assert set(catalogue.types) == {"csv", "json", "redcap", "sql"}
    assert catalogue.types["redcap"].targets == ("study_id", "session_id", "family_id")


def test_an_absent_folder_holds_nothing(tmp_path: Path) -> None:
    assert discover([str(tmp_path / "none")]).problems == ()


def test_a_file_in_place_of_a_folder_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "plugins"
    path.write_text("")
    (problem,) = discover([str(path)]).problems
    assert problem.path == str(path)


def test_a_dropped_in_file_gives_a_type_named_after_it(tmp_path: Path) -> None:
    found = custom(find(tmp_path, booking=PLUGIN))["booking"]
    assert (found.path, found.class_name) == (str(tmp_path / "booking.py"), "Plugin")


def test_finding_a_plugin_does_not_run_it(tmp_path: Path) -> None:
    assert "deadly" in find(tmp_path, deadly="import os\nos._exit(1)\n" + PLUGIN).types


def test_type_name_and_targets_are_read_from_the_class_body(tmp_path: Path) -> None:
    text = PLUGIN + "    type_name: str = 'rest'\n    targets = ('visit', 'room')\n"
    assert custom(find(tmp_path, booking=text))["rest"].targets == ("visit", "room")


@pytest.mark.parametrize(
    "text",
    [
        "import pylantir.data_sources.base as base\nclass P(base.DataSourcePlugin):" + METHODS,
        "from pylantir.data_sources.base import DataSourcePlugin as D\nclass P(D):" + METHODS,
        IMPORT + "class Base(DataSourcePlugin):" + METHODS + "class P(Base):\n    pass\n",
        "from pylantir.data_sources.csv_file import CsvPlugin\nclass P(CsvPlugin):\n    pass\n",
    ],
)
def test_a_plugin_class_is_recognised_however_it_names_its_base(tmp_path: Path, text: str) -> None:
    catalogue = find(tmp_path, booking=text)
    assert custom(catalogue)["booking"].class_name == "P"
    assert isinstance(load_plugin(catalogue.types["booking"]), DataSourcePlugin)


def test_one_file_may_hold_several_plugins_with_names_of_their_own(tmp_path: Path) -> None:
    text = PLUGIN + "    type_name = 'a'\nclass Other(DataSourcePlugin):" + METHODS + "    type_name = 'b'\n"
    assert {name: found.class_name for name, found in custom(find(tmp_path, two=text)).items()} == {
        "a": "Plugin",
        "b": "Other",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:\n", "line 1"),
        ("x = 1\n", "no class"),
        ("\0", "null bytes"),
        (PLUGIN + "class Other(DataSourcePlugin):" + METHODS, "several plugins (Plugin, Other)"),
        (PLUGIN + "    type_name = 'a' + str(1)\n", "literal"),
        (PLUGIN + "    type_name = 7\n", "text"),
        (PLUGIN + "    targets = 'visit'\n", "tuple"),
        (PLUGIN + "    type_name = 'csv'\n", "built in"),
    ],
)
def test_a_file_that_is_no_plugin_is_a_problem_with_a_reason(tmp_path: Path, text: str, reason: str) -> None:
    catalogue = find(tmp_path, broken=text, booking=PLUGIN)
    (problem,) = catalogue.problems
    assert problem.path == str(tmp_path / "broken.py")
    assert reason in problem.reason
    assert set(custom(catalogue)) == {"booking"}


def test_files_that_begin_with_an_underscore_or_a_dot_are_no_plugins(tmp_path: Path) -> None:
    (tmp_path / ".hidden.py").write_text("broken(")
    assert find(tmp_path, _shared="broken(", __init__="broken(").problems == ()


def test_a_type_that_two_files_claim_belongs_to_neither(tmp_path: Path) -> None:
    text = PLUGIN + "    type_name = 'rest'\n"
    catalogue = find(tmp_path, one=text, two=text)
    (problem,) = catalogue.problems
    assert str(tmp_path / "one.py") in problem.reason
    assert str(tmp_path / "two.py") == problem.path
    assert not custom(catalogue)


def test_a_plugin_may_use_dataclasses_pickle_and_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("from the data file")
    text = (
        "from __future__ import annotations\n"
        + IMPORT
        + "import dataclasses, pathlib, _shared\n"
        + "@dataclasses.dataclass(slots=True)\nclass Row:\n    a: int\n"
        + "class Plugin(DataSourcePlugin):"
        + METHODS
        + "    row = Row(1)\n"
        + "    text = pathlib.Path(__file__).with_name('data.txt').read_text() + _shared.TEXT\n"
    )
    catalogue = find(tmp_path, booking=text, _shared="TEXT = ' and the module'\n")
    plugin = load_plugin(catalogue.types["booking"])
    assert plugin.text == "from the data file and the module"  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(plugin.row)) == plugin.row  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("raise ValueError('no luck')\n" + PLUGIN, "ValueError (its message is shown with the log level DEBUG only)"),
        ("import sys\nsys.exit(3)\n" + PLUGIN, "SystemExit"),
        ("import no_such_module\n" + PLUGIN, "ModuleNotFoundError: no_such_module"),
        ("exec('\\n\\nx = = no luck')\n" + PLUGIN, "SyntaxError: invalid syntax (<string>, line 3)"),
        (
            "from pylantir.errors import *\n"
            + PLUGIN
            + "    def __init__(self): raise SourceUnavailable('no server')\n",
            "SourceUnavailable: no server",
        ),
        (IMPORT + "class Plugin(DataSourcePlugin):\n    pass\n", "abstract"),
        (PLUGIN + "    def __init__(self): raise OSError('closed')\n", "OSError"),
        (PLUGIN + "    def __init__(self, url): pass\n", "url"),
        (PLUGIN + "Plugin = 7\n", "int"),
        (PLUGIN + "Plugin = dict\n", "DataSourcePlugin"),
    ],
)
def test_a_plugin_that_fails_while_loading_is_named_with_file_and_cause(tmp_path: Path, text: str, cause: str) -> None:
    catalogue = find(tmp_path, booking=text)
    with pytest.raises(PluginError) as caught:
        load_plugin(catalogue.types["booking"])
    message = str(caught.value)
    assert '"booking"' in message
    assert str(tmp_path / "booking.py") in message
    assert cause in message
    assert "no luck" not in message
    assert "closed" not in message


def test_without_a_class_name_the_only_plugin_class_is_taken(tmp_path: Path) -> None:
    find(tmp_path, booking=PLUGIN)
    path = str(tmp_path / "booking.py")
    assert type(load_plugin(PluginType(type_name="booking", path=path))).__name__ == "Plugin"


@pytest.mark.parametrize("type_name", ["csv", "json"])
def test_a_built_in_type_loads(type_name: str) -> None:
    assert isinstance(load_plugin(discover([]).types[type_name]), DataSourcePlugin)


def test_an_installed_package_may_offer_a_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "installed_plugin.py").write_text(PLUGIN)
    metadata = tmp_path / "installed_plugin-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: installed_plugin\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[pylantir.data_sources]\nbooking = installed_plugin:Plugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = discover([]).types["booking"]
    assert (found.module, found.class_name) == ("installed_plugin", "Plugin")
    assert isinstance(load_plugin(found), DataSourcePlugin)


@pytest.mark.parametrize("answer", ["True", "None", '"ok"', '(True, "", "")', "{}"])
def test_a_check_that_answers_in_another_form_is_told_the_right_one(tmp_path: Path, answer: str) -> None:
    find(tmp_path, booking=PLUGIN.replace('return True, ""', f"return {answer}"))
    kind = PluginType(type_name="booking", path=str(tmp_path / "booking.py"))
    with pytest.raises(PluginError, match=r"booking\.py\): validate_config has to return \(True or False, message\)"):
        ask_validity(load_plugin(kind), SourceSettings(name="a", plugin=kind))


def test_a_check_may_answer_with_a_list(tmp_path: Path) -> None:
    find(tmp_path, booking=PLUGIN.replace('return True, ""', 'return [0, "no host"]'))
    kind = PluginType(type_name="booking", path=str(tmp_path / "booking.py"))
    assert ask_validity(load_plugin(kind), SourceSettings(name="a", plugin=kind)) == (False, "no host")
