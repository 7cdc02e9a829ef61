"""What the headings of an export usually mean, each in view of the others."""

from __future__ import annotations

import pytest

from pylantir.cli.proposal.headings import FIRST_NAME, LAST_NAME, meanings


@pytest.mark.parametrize(
    ("headings", "found"),
    [
        (["name.family", "name.given"], {"name.family": LAST_NAME, "name.given": FIRST_NAME}),
        (["Name", "Vorname"], {"Name": LAST_NAME, "Vorname": FIRST_NAME}),
        # Without a given name beside it, it may be the number of a family.
        (["family", "subject"], {"subject": "patient_id"}),
        (["family", "given", "surname"], {"given": FIRST_NAME, "surname": LAST_NAME}),
    ],
)
def test_a_name_in_parts_is_recognised_by_its_other_part(headings: list[str], found: dict[str, str]) -> None:
    assert meanings(headings) == found
