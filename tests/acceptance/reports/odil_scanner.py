"""A scanner made with Odil, another implementation of DICOM: reports one scan and prints what it is answered.

Run by the interpreter that Debian's python3-odil is for: `odil_scanner.py PORT STUDY_UID PATIENT_ID`.
"""

import json
import sys

import odil

port, study_uid, patient_id = int(sys.argv[1]), sys.argv[2], sys.argv[3]
MPPS = odil.registry.ModalityPerformedProcedureStep
Context = odil.AssociationParameters.PresentationContext


def data_set(**values):
    made = odil.DataSet()
    for keyword, value in values.items():
        made.add(keyword, [value])
    return made


def exchange(association, request):
    association.send_message(request, MPPS)
    answer = association.receive_message().get_command_set()
    told = {name: answer[name][0] for name in ("Status", "ErrorID") if name in answer}
    for name in ("AffectedSOPInstanceUID", "ErrorComment"):
        if name in answer:
            told[name] = bytes(answer[name][0]).decode()
    return told


association = odil.Association()
association.set_peer_host("127.0.0.1")
association.set_peer_port(port)
parameters = association.update_parameters()
parameters.set_calling_ae_title("ODIL")
parameters.set_called_ae_title("PYLANTIR")
parameters.set_presentation_contexts([Context(MPPS, [odil.registry.ExplicitVRLittleEndian], Context.Role.SCU)])
association.associate()

beginning = data_set(
    ScheduledStepAttributesSequence=data_set(StudyInstanceUID=study_uid),
    PatientID=patient_id,
    Modality="MR",
    PerformedProcedureStepStatus="IN PROGRESS",
)
ending = data_set(
    PerformedProcedureStepStatus="COMPLETED",
    PerformedProcedureStepEndDate="20300101",
    PerformedProcedureStepEndTime="110000",
    PerformedSeriesSequence=data_set(SeriesInstanceUID="1.2.3.4", ProtocolName="BRAIN"),
)
# Odil gives no instance UID: the server makes one.
created = exchange(association, odil.messages.NCreateRequest(1, MPPS, beginning))
uid = created.get("AffectedSOPInstanceUID", "")
endings = [odil.messages.NSetRequest(number, MPPS, uid, ending) for number in (2, 3)]
print(json.dumps([created, *(exchange(association, request) for request in endings)]))
association.release()
