"""The three decisions of a REDCap plan, each by itself."""

from __future__ import annotations

import pytest

from pylantir.data_sources.redcap.plan import (
    WantedTargets,
    choose_composite,
    choose_forms,
    resolve_mapping,
)
from pylantir.data_sources.redcap.project import RedcapProject
from pylantir.errors import SourceUnavailable


def project(**forms: str) -> RedcapProject:
    """`form="field field"`; the record ID comes first."""
    pairs = [("first", "record_id"), *((form, name) for form, names in forms.items() for name in names.split())]
    return RedcapProject([{"field_name": name, "form_name": form} for form, name in pairs])


OLD = project(demographics="study_id family_id youth_dob_y demo_sex", mri="mri_instance mri_date mri_time")
DIRECT = project(person="mrn note", mri="day acc")
KEYS = {"mrn": "patient_id", "day": "scheduled_start_date"}


def choose(where: RedcapProject, mapping: dict[str, str], *, legacy: bool = False) -> WantedTargets:
    return choose_composite(where, resolve_mapping(where, mapping), legacy=legacy)


def test_mapping_is_resolved_in_its_own_order_and_unknown_fields_are_named_with_a_near_one() -> None:
    mapping = {"note": "allergies", "mrm": "patient_id", "acc": "allergies", "day": "scheduled_start_date"}
    found = resolve_mapping(DIRECT, mapping)
    assert found.sources == {"allergies": ("note", "acc"), "scheduled_start_date": ("day",)}
    assert found.unknown == ('"mrm": did you mean "mrn"?',)


def test_a_mapped_patient_id_is_never_put_together() -> None:
    wanted = choose(DIRECT, KEYS)
    assert (wanted.composite, wanted.required) == (False, ("scheduled_start_date",))
    assert wanted.sources == {"patient_id": ("mrn",), "scheduled_start_date": ("day",)}


def test_without_a_mapped_patient_id_the_fields_of_old_stand_in_for_roles_that_nobody_mapped() -> None:
    wanted = choose(OLD, {"mri_date": "scheduled_start_date", "family_id": "patient_name"})
    assert wanted.composite
    assert wanted.sources["study_id"] == ("study_id",)
    assert wanted.sources["scheduled_start_date"] == ("mri_date",)
    assert "patient_name" not in wanted.sources  # it is put together, too


def test_in_old_configurations_the_field_of_old_counts_beside_the_mapped_one() -> None:
    mapping = {"demo_sex": "scheduled_start_date"}
    assert choose(OLD, mapping, legacy=True).sources["scheduled_start_date"] == ("demo_sex", "mri_date")
    assert choose(OLD, mapping).sources["scheduled_start_date"] == ("demo_sex",)


def test_a_patient_id_that_is_mapped_but_absent_ends_the_plan() -> None:
    with pytest.raises(SourceUnavailable, match='no field "nope", which field_mapping maps to patient_id'):
        choose(DIRECT, {"nope": "patient_id", "day": "scheduled_start_date"})


def test_fields_of_the_instrument_describe_the_scan_but_never_those_of_the_patient() -> None:
    where = project(mri="mrn day acc")
    own = choose_forms(where, choose(where, {**KEYS, "acc": "accession_number"}), "mri")
    assert own == {"mri": frozenset({"day", "acc"}), "": frozenset({"day", "acc"})}


def test_the_form_with_the_date_describes_the_scan_where_the_instrument_is_missing() -> None:
    where = project(person="mrn", booking="day acc")
    own = choose_forms(where, choose(where, {**KEYS, "acc": "accession_number"}), "mri")
    assert own["booking"] == own[""] == frozenset({"day", "acc"})
    assert own["mri"] == frozenset({"day"})
