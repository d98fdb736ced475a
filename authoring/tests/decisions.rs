//! Every case of `testdata/decisions`, natively. The built plugin runs the same files (`plugin/tests`).

use std::{fs, path::Path};

use portcullis_authoring::cases::CaseFile;

#[test]
fn every_documented_decision_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/decisions");
    let (mut n_requests, mut failures) = (0, Vec::new());
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let file: CaseFile = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let runner = file.runner(&name).unwrap();
        runner.snapshot.verify().unwrap();
        for (index, case) in file.requests.iter().enumerate() {
            n_requests += 1;
            let differences = case.differences(&file.run(&runner, case));
            failures
                .extend(differences.into_iter().map(|difference| format!("{name} requests[{index}]: {difference}")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(n_requests > 50, "only {n_requests} requests were found");
}
