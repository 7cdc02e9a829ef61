"""Usual headings of export columns, in English, German, French and Spanish.

Lives in `pylantir init`. Pure. In: a heading. Out: the field that it usually means.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

LAST_NAME, FIRST_NAME, MIDDLE_NAME = "last name", "first name", "middle name"
MOMENT = "moment"
"""Headings of the scan's date, time, or both; the column's values decide which."""

_HEADINGS: Mapping[str, str] = {
    "patient_id": """patientid patid pid mrn patientmrn medicalrecordnumber patientnumber patientno patientnr subjectid
        subject subjectnumber participantid participant studysubject hospitalnumber hospitalno chartnumber urn nhsnumber
        unitnumber patientennummer patientennr patientenid patnr patnummer probandenid proband
        probandennummer pseudonym ipp numeropatient nopatient idpatient identifiantpatient numerodossier nodossier sujet
        idpaciente numeropaciente nropaciente numerohistoria historiaclinica nhc numhistoria sujeto""",
    "patient_name": """name patientname patientsname fullname patientfullname patientenname namedespatienten nompatient
        nomdupatient nometprenom nomprenom nompaciente nombrepaciente nombredelpaciente nombrecompleto nombreyapellidos
        apellidosynombre apellidosnombre""",
    LAST_NAME: """lastname surname familyname patientlastname patientsurname last nachname familienname zuname
        nachnamepatient nomdefamille nomdenaissance nomusuel apellido apellidos primerapellido""",
    FIRST_NAME: """firstname givenname forename patientfirstname first given vorname vornamen rufname prenom prenoms
        prenompatient nombres""",
    MIDDLE_NAME: "middlename middle segundonombre",
    "patient_birth_date": """dob dateofbirth birthdate birthday patientdob patientbirthdate born birth geburtsdatum
        gebdatum gebdat geb geburtstag geboren geborenam datedenaissance datenaissance naissance ddn neele nele
        fechadenacimiento fechanacimiento fechanac fnacimiento fnac nacimiento yearofbirth birthyear geburtsjahr""",
    "patient_sex": "sex gender patientsex patientgender geschlecht geschl sexe genre sexo genero",
    "patient_weight_kg": """weightkg kg gewichtkg gewicht koerpergewicht korpergewicht poids poidskg peso pesokg
        bodyweightkg patientweightkg""",
    "patient_weight_lb": "weightlb weightlbs lbs lb pounds",
    "accession_number": """accession accessionnumber accessionno accessionnr accnr accno acc ordernumber orderno orderid
        order ordernr auftragsnummer auftragsnr auftragid auftrag anforderungsnummer anforderungsnr anforderung
        bestellnummer numerodedemande numerodemande nodemande numerodexamen numeroexamen numeroaccession
        numerodepeticion numeropeticion numeroacceso numerodeacceso peticion""",
    "source_record_id": """bookingid booking bookingnumber bookingno appointmentid appointmentno recordid eventid uid
        reservationid buchungsnummer buchungsnr buchung terminid terminnr terminnummer idrdv numerordv
        numerodereservation idcita numerocita numerodecita""",
    MOMENT: """date day scandate examdate exam_date mridate appointmentdate bookingdate visitdate scheduleddate
        startdate studydate datum untersuchungsdatum termindatum tag untersuchungstag scandatum datedexamen dateexamen
        daterdv daterendezvous datedurdv datedurendezvous jour fecha fechacita fechadecita fechadelacita fechaexamen
        fechaprueba fechaestudio dia time scantime starttime examtime appointmenttime timeofday uhrzeit zeit beginn
        startzeit terminzeit untersuchungszeit heure heureexamen heurerdv heuredurdv heurededebut hora horacita
        horadecita horadelacita horainicio start begin begins startsat datetime startdatetime dateandtime scheduledstart
        scheduled appointment appt apptdate appttime slot termin terminbeginn zeitpunkt rdv rendezvous cita fechahora
        fechayhora inicio debut datetimestart examstart scanstart""",
    "procedure_description": """exam examination procedure procedurename proceduredescription examtype scantype
        untersuchung untersuchungsart leistung prozedur examen typeexamen typedexamen acte estudio exploracion prueba
        tipodeprueba tipoestudio region bodypart koerperregion korperregion""",
    "protocol_name": "protocol protocolname scanprotocol protokoll protocole protocolo",
    "study_description": "study studyname studydescription project studie projekt etude proyecto",
    "modality": "modality modalitat modalitaet modalite modalidad",
    "scheduled_station_aetitle": """scanner station aetitle ae stationaetitle machine device geraet gerat appareil
        equipo maquina resonancia mrscanner""",
    "scheduled_step_location": "room location raum salle sala ort lieu lugar",
    "referring_physician_name": """referrer referringphysician referringdoctor referredby zuweiser ueberweiser
        uberweiser einweiser medecinprescripteur medecindemandeur prescripteur medicosolicitante medicopeticionario""",
    "allergies": "allergies allergy allergien allergie alergias alergia",
    "pregnancy_status": """pregnant pregnancy pregnancystatus schwanger schwangerschaft enceinte grossesse embarazo
        embarazada""",
    "study_instance_uid": "studyinstanceuid studyuid",
    "requested_procedure_id": "requestedprocedureid",
    "admission_id": "admissionid visitnumber encounter fallnummer fallnr numerodesejour episodio",
}  # fmt: skip
_MEANINGS = {word.replace("_", ""): field for field, words in _HEADINGS.items() for word in words.split()}
_WEAK = {
    "id": "patient_id",
    "nr": "patient_id",
    "number": "patient_id",
    "patient": "patient_id",
    "paciente": "patient_id",
}
"""Headings that are used for a field only if no other column fits it."""
_FILLERS = re.compile(
    r"\b(?:the|of|patient'?s?|pat\.?|patienten|paciente|der|des|die|du|de|la|le|del|el)\b", re.IGNORECASE
)
_LAST_BESIDE_FIRST = frozenset({"name", "nom", "family"})
_FIRST_BESIDE_LAST = frozenset({"nombre", "name"})


def bare(heading: str) -> str:
    """Write a heading without accents, capitals and punctuation: "Geb.-Datum" is "gebdatum"."""
    text = heading.casefold().replace("ß", "ss").replace("n°", "numero").replace("nº", "numero")
    plain = unicodedata.normalize("NFKD", text)
    return re.sub(r"[^a-z0-9]", "", "".join(one for one in plain if not unicodedata.combining(one)))


def meaning(heading: str) -> str:
    """Say which field a heading usually means; "" if none is known. Of a dotted name the last parts count, too."""
    without_remark = re.sub(r"[(\[].*?[)\]]", "", heading)
    shorter = _FILLERS.sub(" ", without_remark)
    for text in (heading, without_remark, shorter):
        if (name := bare(text)) in _MEANINGS:
            return _MEANINGS[name]
    parts = heading.split(".")
    for start in range(1, len(parts)):
        if (tail := bare(" ".join(parts[start:]))) in _MEANINGS:
            return _MEANINGS[tail]
    return ""


def meanings(headings: list[str]) -> dict[str, str]:
    """Return the meaning of each heading in view of the others: "Name" beside "Vorname" is the last name."""
    found = {heading: meaning(heading) for heading in headings}
    has_first, has_last = FIRST_NAME in found.values(), LAST_NAME in found.values()
    for heading in headings:
        name = bare(heading)
        is_family = bare(heading.rpartition(".")[2]) == "family"
        if has_first and not has_last and (name in _LAST_BESIDE_FIRST or is_family):
            found[heading] = LAST_NAME
        elif has_last and not has_first and name in _FIRST_BESIDE_LAST:
            found[heading] = FIRST_NAME
        elif name == "nom" or (name == "nombre" and not found[heading]):
            found[heading] = "patient_name"
    if "patient_id" not in found.values():
        for name, field in _WEAK.items():
            weak = [one for one in headings if bare(one.rpartition(".")[2]) == name and not found[one]]
            if weak:
                found[weak[0]] = field
                break
    return {heading: field for heading, field in found.items() if field}
