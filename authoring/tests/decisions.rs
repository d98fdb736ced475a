//! Every policy test file of `testdata`, natively. The built plugin and the module for browsers run the same files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../testdata/files.rs"]
mod files;

use std::fs;

use portcullis_authoring::cases::CaseFile;

#[test]
fn every_documented_decision_holds() {
    let (mut n_requests, mut failures) = (0, Vec::new());
    for (name, path) in files::all() {
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
