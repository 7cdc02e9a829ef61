"""The base of all objects of the file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """An object of the file: strict about types, and keys that start with `_` are comments."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        # Only the model of the whole file is used, which contains the others: a start waits for its building.
        defer_build=True,
        json_schema_extra={"patternProperties": {"^_": {"description": "A comment."}}},
    )
