"""The glossary and the modules that introduce its words name the same ones."""

from __future__ import annotations

import ast
import re

from pages import REPOSITORY

PAGE = REPOSITORY / "docs" / "explanation" / "glossary.md"
POINTER = re.compile(r"Glossary: ([^()]+)\s\(docs/explanation/glossary\.md\)\.")


def explained() -> set[str]:
    return {word.lower() for word in re.findall(r"\*\*([^*]+)\*\*", PAGE.read_text(encoding="utf-8"))}


def coined() -> dict[str, set[str]]:
    """Module -> the words that its docstring says it introduces."""
    found = {}
    for folder in ("pylantir", "workers"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            if match := POINTER.search(docstring):
                words = re.split(r",\s*", re.sub(r"\s+", " ", match[1]))
                found[str(path.relative_to(REPOSITORY))] = set(words)
    return found


def test_every_word_is_introduced_by_a_module() -> None:
    assert explained() == set().union(*coined().values())


def test_a_module_uses_the_words_that_it_introduces() -> None:
    for path, words in coined().items():
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        code = POINTER.sub("", text).lower().replace("_", " ")
        assert not [word for word in words if word not in code], path
