"""For the authors of plugins: runs a plugin by Pylantir's rules, in a test, without a server or a database."""

from pylantir.testing.plugin_file import load_plugin_class
from pylantir.testing.run import Result, run_plugin

__all__ = ["Result", "load_plugin_class", "run_plugin"]
