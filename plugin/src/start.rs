//! How the host finds the guard: the exported handlers, registered before anything else runs.
//!
//! The binding answers "continue" while no guest is registered, which would leave the gate open. So registering is the
//! start function `_start`, which every http-wasm host runs inside the instantiation of a guest: an instance whose start
//! function did not run to its end never gets into the pool (traefik §3.4). A test on the built module proves that the
//! export is there and that it registers. Nothing in here can fail: a trap in start code would disable every plugin of
//! the gateway.
//!
//! The function is written here because rustc links no start file of wasi-libc into a `cdylib`; without one the linker
//! would run all constructors and destructors anew around *every* handler call. It is `_start` and not `_initialize`
//! because that is the one that all hosts call, the catalog's checker included.

use crate::{
    guard::{self, Outcome},
    host::{self, HttpWasm},
    state::State,
};
use http_wasm_guest::{
    Guest,
    host::{Request, Response},
};
use std::cell::Cell;

/// The guest. It has no fields, so that registering it allocates nothing.
struct Portcullis;

/// `handle_request`'s answer to the host when it is not to go on with the request. The context has to be 0: the host takes
/// any other answer than 0 for a request that goes on, and would wait for its response for ever with this instance.
const STOP: (bool, i32) = (false, 0);

thread_local! {
    /// What this instance knows. It is taken out while a request is handled and put back afterwards: an instance whose
    /// handler trapped goes back to the pool as it is (traefik §3.4), and then finds nothing here and starts afresh,
    /// instead of a borrow flag that nobody will ever clear.
    static STATE: Cell<Option<Box<State>>> = const { Cell::new(None) };
}

impl Guest for Portcullis {
    fn handle_request(&self, request: &Request, response: &Response) -> (bool, i32) {
        let host = HttpWasm { request, response };
        let mut state = STATE.take().unwrap_or_else(|| Box::new(State::new(&host::configuration(), &host)));
        let outcome = guard::handle(&host, &mut state);
        STATE.set(Some(state));
        match outcome {
            Outcome::Forward { context } => (true, context),
            Outcome::Answered => STOP,
        }
    }

    fn handle_response(&self, context: i32, request: &Request, response: &Response, is_error: bool) {
        // First: whatever becomes of the connection, what the request held is free.
        if context != 0
            && let Some(mut state) = STATE.take()
        {
            guard::finish(&HttpWasm { request, response }, &mut state, context);
            STATE.set(Some(state));
        }
        if is_error {
            // The backend's answer broke off and the host has swallowed the abort: returning would end a cut chunked body
            // as if it were whole. A trap makes the gateway abort the connection (traefik §3.6).
            core::arch::wasm32::unreachable()
        }
    }
}

#[allow(unsafe_code, reason = "the start function and the linker's list of constructors have no safe spelling")]
mod entry {
    unsafe extern "C" {
        /// Made by the linker: calls the constructors of wasi-libc, if any are linked.
        fn __wasm_call_ctors();
    }

    /// The start function.
    #[unsafe(export_name = "_start")]
    extern "C" fn start() {
        // First, so that nothing after it can leave the instance without a guard. It allocates nothing.
        http_wasm_guest::register(super::Portcullis);
        // SAFETY: the host calls this once, before any handler; registering touches nothing that a constructor sets up.
        unsafe { __wasm_call_ctors() };
    }
}
