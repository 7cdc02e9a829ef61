"""Who stands on the scanner's list: stories with real files, queries and reports."""

from __future__ import annotations

from installation import Installation
from stories import DAY, Story, booking

NAME, UID, DATE, ACCESSION = "PatientName", "StudyInstanceUID", "ScheduledProcedureStepStartDate", "AccessionNumber"


def test_two_sites_with_the_same_numbers(installation: Installation, findscu: str) -> None:
    story = Story(installation, findscu, "siteA", "siteB")
    story.sync("siteA", booking("a1", "100", "080000", patient_name="Smith^John", patient_sex="M"))
    mary = booking("b1", "100", "113000", patient_name="Jones^Mary", patient_sex="F", patient_birth_date="1990-01-01")
    story.sync("siteB", mary)
    seen = story.seen(NAME, "PatientSex", "PatientBirthDate")
    assert seen == [("100", "Jones^Mary", "F", "19900101"), ("100", "Smith^John", "M", "")]
    (told,) = story.say("conflicts")
    assert (told["kind"], told["patient_id"], len(told["items"])) == ("kept_apart", "100", 2)
    assert told["what_to_do"]
    assert [line["action"] for line in story.say("audit")].count("kept_apart") == 2
    assert "are kept apart although their numbers agree" in installation.log()
    story.sync("siteB", {**mary, "patient_id": "200"})
    assert story.say("conflicts") == []


def test_a_stranger_with_the_number_of_a_done_exam_is_served(installation: Installation, findscu: str) -> None:
    story = Story(installation, findscu, "siteA", "siteB")
    story.sync("siteA", booking("a1", "100", "080000", patient_name="Smith^John", patient_sex="M"))
    story.scan("100")
    story.sync("siteB", booking("b1", "100", "083000", patient_name="Jones^Mary", patient_sex="F"))
    assert story.seen(NAME) == [("100", "Jones^Mary")]


def test_study_uids_that_change_hands(installation: Installation, findscu: str) -> None:
    story = Story(installation, findscu, "ris", "csv")
    story.sync("ris", booking("r1", "P1", study_instance_uid="1.2.3"))
    story.sync("csv", booking("c2", "P2", study_instance_uid="1.2.3"))
    assert story.seen(UID) == [("P1", "1.2.3")]
    (refused,) = story.say("rejects")
    assert (refused["other_patient_id"], refused["other_source"], refused["patient_id"]) == ("P1", "ris", "P2")
    story.sync("ris", booking("r1", "P1", study_instance_uid="1.2.4"))
    assert story.seen(UID) == [("P1", "1.2.4"), ("P2", "1.2.3")]
    assert story.say("rejects") == []


def test_corrections_after_the_exam_list_nothing_again(installation: Installation, findscu: str) -> None:
    story = Story(installation, findscu, "ris")
    jane = booking(None, "P11", "080000", patient_name="Doe^Jane", patient_birth_date="1980-05-17")
    other = booking("x", "P2", "100000")
    story.sync("ris", jane, other)
    story.scan("P11")
    for change in ({"accession_number": "A1"}, {"accession_number": "A1", "source_record_id": "r1"}):
        story.sync("ris", {**jane, **change}, other)
        assert story.seen() == [("P2",)]
    story.sync("ris", {**jane, "accession_number": "A1", "source_record_id": "r1", "patient_id": "P1"}, other)
    assert story.seen() == [("P2",)]
    assert [(one["kind"], one["fields"]) for one in story.say("conflicts")][-1][0] == "wish"


def test_a_discontinued_exam_is_booked_again(installation: Installation, findscu: str) -> None:
    story = Story(installation, findscu, "ris")
    other = booking("x", "P2")
    story.sync("ris", booking("r1", "P1"), other)
    story.scan("P1", "DISCONTINUED")
    story.sync("ris", booking("r1", "P1", scheduled_start_date="20300708"), other)
    assert story.seen(DATE) == [("P1", "20300708"), ("P2", DAY)]
