//! What libFuzzer ever found, and every seed, through the targets' bodies: on each run, on a stable toolchain.

#[path = "../seeds/mod.rs"]
mod seeds;

use std::{fs, path::Path};

use portcullis_fuzz::TARGETS;

#[test]
fn every_finding_and_every_seed_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fuzz");
    for target in TARGETS {
        let seeds = seeds::of(target.name);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in &seeds {
            (target.run)(seed);
        }
        // A target nothing was found in has no folder.
        for entry in fs::read_dir(folder.join(target.name)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            // The target's own message says what is wrong; this one says with which file.
            let outcome = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(outcome.is_ok(), "{}", path.display());
        }
    }
}

#[test]
fn every_folder_of_findings_belongs_to_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/fuzz");
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with("README") || portcullis_fuzz::target(&name).is_some(), "{name}");
    }
}

#[test]
fn every_target_has_its_program() {
    for target in TARGETS {
        let program = format!("libfuzzer/fuzz_targets/{}.rs", target.name);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(program);
        assert!(
            fs::read_to_string(&path).unwrap().contains(&format!("portcullis_fuzz::{}::run(", target.name)),
            "{}",
            path.display()
        );
    }
}
