"""Patient IDs that earlier versions put together are recognised as those of today."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylantir.data_sources.redcap.naming import Protocols, composite_fields
from pylantir.store.schema.adoption import canonical_patient_id

PART = st.text("ABCxyz0189", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("sub_101_ses_1_fam_7_site_792", "sub_101_ses_1_fam_7_site_792"),
        ("sub-101_ses-1_fam-7_site-792", "sub_101_ses_1_fam_7_site_792"),
        ("sub_101_ses_1.0_fam_7_site_792", "sub_101_ses_1_fam_7_site_792"),
        ("sub-101_ses-12.00_fam-7_site-792", "sub_101_ses_12_fam_7_site_792"),
        ("sub_101_ses_1_fam_None_site_792", "sub_101_ses_1_site_792"),
        ("sub_101_ses_1_fam_nan_site_None", "sub_101_ses_1"),
        ("sub_101_ses_1_fam__site_792", "sub_101_ses_1_site_792"),
        ("sub_101_ses_1.0_fam_7", "sub_101_ses_1_fam_7"),
        ("sub_101_ses_1_fam_None", "sub_101_ses_1"),
        ("sub_A_1_ses_1_fam_7_site_792", "sub_A_1_ses_1_fam_7_site_792"),
        ("MRN-17.0", "MRN-17.0"),
        ("sub_101_ses_1", "sub_101_ses_1"),
    ],
)
def test_forms_of_earlier_versions_become_that_of_today(old: str, today: str) -> None:
    assert canonical_patient_id(old) == today


@given(PART, st.integers(1, 99), PART | st.just("None"), PART | st.just("None"), st.sampled_from("-_"))
def test_what_an_earlier_version_wrote_is_what_the_source_gives_today(
    study: str, session: int, family: str, site: str, mark: str
) -> None:
    old = f"sub{mark}{study}_ses{mark}{session}.0_fam{mark}{family}_site{mark}{site}"
    given_today = composite_fields(
        study=f"CPIP-{study}",
        session=str(session),
        family="" if family == "None" else f"FAM-{family}",
        protocols=Protocols(site="" if site == "None" else site),
    )
    assert canonical_patient_id(old) == given_today["patient_id"]
