//! Every policy test file in the module that is built for browsers, beside the native engine.
//!
//! The module is `PORTCULLIS_CONSOLE` (set by `cargo xtask test`); without it the test says so and ends, unless
//! `PORTCULLIS_REQUIRE=1`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed expectation ends its test")]

#[path = "../../testdata/files.rs"]
mod files;

use std::{env, fs};

use portcullis_authoring::cases::CaseFile;
use portcullis_console::{MAX_TEXT_BYTES, decisions};
use serde_json::Value;
use wasmtime::{Config, Engine, Instance, Memory, Module, OptLevel, RegallocAlgorithm, Store, TypedFunc};

/// The module, with nothing to import: it has no clock, no files and no randomness.
struct Console {
    store: Store<()>,
    memory: Memory,
    input: TypedFunc<u32, u32>,
    decide: TypedFunc<(), u32>,
    output: TypedFunc<(), u32>,
}

impl Console {
    fn built() -> Option<Self> {
        let Some(path) = env::var_os("PORTCULLIS_CONSOLE") else {
            assert_ne!(env::var("PORTCULLIS_REQUIRE").as_deref(), Ok("1"), "PORTCULLIS_CONSOLE is not set");
            eprintln!("PORTCULLIS_CONSOLE is not set: run `cargo xtask test --only console`");
            return None;
        };
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::None).cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, fs::read(path).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let input = instance.get_typed_func(&mut store, "input").unwrap();
        let decide = instance.get_typed_func(&mut store, "decide").unwrap();
        let output = instance.get_typed_func(&mut store, "output").unwrap();
        Some(Self { store, memory, input, decide, output })
    }

    fn decisions(&mut self, text: &str) -> String {
        let at = self.input.call(&mut self.store, u32::try_from(text.len()).unwrap()).unwrap();
        self.memory.write(&mut self.store, at as usize, text.as_bytes()).unwrap();
        let len = self.decide.call(&mut self.store, ()).unwrap();
        let at = self.output.call(&mut self.store, ()).unwrap();
        let mut answer = vec![0; len as usize];
        self.memory.read(&self.store, at as usize, &mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }
}

#[test]
fn every_policy_test_file_is_decided_as_by_the_native_engine() {
    let Some(mut console) = Console::built() else { return };
    let mut n_requests = 0;
    for (name, path) in files::all() {
        let text = fs::read_to_string(path).unwrap();
        let file: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let answer = console.decisions(&file.to_string());
        assert_eq!(answer, decisions(&file.to_string()), "{name}");
        // And both are right.
        let answers: Vec<Value> =
            serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{name}: {error}: {answer}"));
        let expected: CaseFile = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(answers.len(), expected.requests.len(), "{name}");
        for (index, (answer, case)) in answers.iter().zip(&expected.requests).enumerate() {
            let place = format!("{name} requests[{index}]: {answer}");
            let wanted = format!("{:?}", case.expect).to_lowercase();
            assert_eq!(answer["verdict"], wanted.as_str(), "{place}");
            assert_eq!(answer["index"], index, "{place}");
            if let Some(rule) = &case.rule {
                assert_eq!(answer["rule"], rule.as_str(), "{place}");
            }
            if let Some(status) = case.status {
                assert_eq!(answer["status"], status, "{place}");
            }
            n_requests += 1;
        }
    }
    assert!(n_requests > 50, "only {n_requests} requests were found");
}

#[test]
fn what_is_no_test_file_is_an_error_in_the_module_as_well() {
    let Some(mut console) = Console::built() else { return };
    for text in ["", "{}", "\u{fffd}", r#"{"requests": [], "policyFrom": "x"}"#] {
        assert_eq!(console.decisions(text), decisions(text), "{text}");
    }
    let too_long = u32::try_from(MAX_TEXT_BYTES + 1).unwrap();
    assert_eq!(console.input.call(&mut console.store, too_long).unwrap(), 0, "no place for it");
    // And it goes on.
    assert!(console.decisions("{}").contains("error"));
}
