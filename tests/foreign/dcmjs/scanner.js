// A scanner made with dcmjs-dimse, another implementation of DICOM: it checks the connection, asks for its day, reports
// the first scan of that day, and prints what it is answered.
//
// scanner.js PORT CALLING DATE; NODE_PATH names the folder of the packages.

const dcmjs = require("dcmjs-dimse");
const { Client, Dataset } = dcmjs;
const { CEchoRequest, CFindRequest, NCreateRequest, NSetRequest } = dcmjs.requests;
const { SopClass } = dcmjs.constants;

const [port, calling, date] = [Number(process.argv[2]), process.argv[3], process.argv[4]];
const MPPS = SopClass.ModalityPerformedProcedureStep;
dcmjs.log.setLevel("silent");

// One association for each request: the answers, in the order in which they came. The library takes 0xFF01 for the end of
// an answer, releases the association once more at its real end, and then sometimes complains that it is closed.
function exchange(request) {
  return new Promise((resolve, reject) => {
    const client = new Client();
    const answers = [];
    request.on("response", (response) => answers.push(response));
    client.addRequest(request);
    for (const failure of ["networkError", "associationRejected"]) {
      client.on(failure, (error) => {
        if (answers.some((answer) => ![0xff00, 0xff01].includes(answer.getStatus()))) resolve(answers);
        else reject(new Error(`${failure}: ${JSON.stringify(error)} ${error}`));
      });
    }
    client.on("closed", () => resolve(answers));
    client.send("127.0.0.1", port, calling, "PYLANTIR");
  });
}

async function report(request, elements) {
  request.setDataset(new Dataset(elements));
  const [answer] = await exchange(request);
  return answer.getStatus();
}

async function main() {
  const [echo] = await exchange(new CEchoRequest());
  const query = CFindRequest.createWorklistFindRequest({
    PatientID: "",
    PatientName: "",
    StudyInstanceUID: "",
    ScheduledProcedureStepSequence: [
      { ScheduledStationAETitle: calling, ScheduledProcedureStepStartDate: date, Modality: "" },
    ],
  });
  const answers = await exchange(query);
  const matches = answers.filter((answer) => answer.hasDataset()).map((answer) => answer.getDataset().getElements());
  const match = matches[0];
  const uid = Dataset.generateDerivedUid();
  const created = await report(new NCreateRequest(MPPS, uid), {
    ScheduledStepAttributesSequence: [{ StudyInstanceUID: match.StudyInstanceUID }],
    PatientID: match.PatientID,
    PatientName: match.PatientName,
    Modality: "MR",
    PerformedProcedureStepID: "PPS1",
    PerformedStationAETitle: calling,
    PerformedProcedureStepStartDate: date,
    PerformedProcedureStepStartTime: "100000",
    PerformedProcedureStepStatus: "IN PROGRESS",
  });
  const ending = {
    PerformedProcedureStepStatus: "COMPLETED",
    PerformedProcedureStepEndDate: date,
    PerformedProcedureStepEndTime: "110000",
    PerformedSeriesSequence: [{ SeriesInstanceUID: "1.2.3.4", ProtocolName: "BRAIN" }],
  };
  const ended = await report(new NSetRequest(MPPS, uid), ending);
  const late = await report(new NSetRequest(MPPS, uid), ending);
  const said = {
    echo: echo.getStatus(),
    patients: matches.map((one) => one.PatientID),
    found: answers[answers.length - 1].getStatus(),
    reports: [created, ended, late],
  };
  console.log(JSON.stringify(said));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
