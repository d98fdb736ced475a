//! A gateway that does what its script says and writes down every call that the guest makes.
//!
//! WASI is scripted as well: time stands still until a test moves it, files change by "rename", reads can be cut short or
//! fail, and each of these calls is in the record like any other.

mod http;
mod memory;
mod state;
mod wasi;

pub(crate) use state::{STATE_MOUNT, StateFolder};

use state::Open;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use wasmtime::{Config, Engine, InstancePre, Linker, Memory, Module, OptLevel, RegallocAlgorithm, Store, TypedFunc};

/// The guest's view of the mounted directory.
pub(crate) const MOUNT: &str = "/policy";
/// The time at which every test begins, in Unix milliseconds: 2026-11-21, 12:00:00 UTC.
pub(crate) const START_MS: u64 = 1_795_262_400_000;

/// Everything outside the guest.
pub(crate) struct World {
    /// The middleware's configuration.
    pub(crate) config: String,
    /// The request in hand.
    pub(crate) request: Request,
    /// What the guest answered.
    pub(crate) reply: Reply,
    /// Every host call, in order, one line each.
    pub(crate) calls: Vec<String>,
    /// The files of the mount by name.
    pub(crate) files: BTreeMap<String, Arc<Vec<u8>>>,
    /// Open files by descriptor; an open file keeps its bytes when the name gets others.
    pub(crate) open: BTreeMap<i32, Arc<Vec<u8>>>,
    /// The state mount, where there is one.
    pub(crate) state: Option<StateFolder>,
    /// Its open files and folders by descriptor.
    pub(crate) open_state: BTreeMap<i32, Open>,
    /// What others do just before the guest makes the first call that begins like this.
    pub(crate) before: Option<(&'static str, Box<dyn FnOnce()>)>,
    /// Wall time in Unix milliseconds.
    pub(crate) now_ms: u64,
    /// Most bytes that one read returns.
    pub(crate) read_limit: usize,
    /// Whether reads fail.
    pub(crate) reads_fail: bool,
    /// Whether asking for the time traps, in the middle of a request.
    pub(crate) clock_traps: bool,
    /// Whether removing a header has no effect, as with a name that has no canonical spelling in Go.
    pub(crate) removal_fails: bool,
}

/// A request as the host presents it.
#[derive(Clone, Default)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: String,
    /// Escaped path and query.
    pub(crate) uri: String,
    /// Headers by their lower-case names, which is how the host lists them.
    pub(crate) headers: BTreeMap<String, Vec<Vec<u8>>>,
    /// The other end of the connection, as Go spells it; `192.0.2.1:4711` unless said otherwise.
    pub(crate) source_address: Option<String>,
}

/// What the guest sent to the client.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reply {
    /// Response headers in the order in which they were set.
    pub(crate) headers: Vec<(String, String)>,
    /// The status; 0 while none was set.
    pub(crate) status: i32,
    /// The body.
    pub(crate) body: String,
}

/// What became of a request.
pub(crate) struct Answer {
    /// Whether the gateway goes on with it.
    pub(crate) forwarded: bool,
    /// What the guest wants to be told when the answer is over.
    pub(crate) context: i32,
    /// The host calls made for it.
    pub(crate) calls: Vec<String>,
    /// What the client got, when it was not forwarded; else the headers that were set before the backend's.
    pub(crate) reply: Reply,
    /// The request as it went on, or as the access log sees it.
    pub(crate) request: Request,
    /// The instructions that it took inside the guest, about.
    pub(crate) fuel: u64,
}

/// One instance of the plugin.
pub(crate) struct Guest {
    store: Store<World>,
    memory: Memory,
    handle_request: TypedFunc<(), i64>,
    handle_response: TypedFunc<(i32, i32), ()>,
}

// === impl Request ===

impl Request {
    /// A request without headers, except the `host` that every request has.
    pub(crate) fn new(method: &str, uri: &str) -> Self {
        let request = Self { method: method.to_owned(), uri: uri.to_owned(), ..Self::default() };
        request.with("host", "web.example")
    }

    /// Adds a value to a header.
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.entry(name.to_ascii_lowercase()).or_default().push(value.as_ref().to_vec());
        self
    }

    /// The only value of a header; `None` when there is no such header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values = self.headers.get(&name.to_ascii_lowercase())?;
        assert_eq!(values.len(), 1, "{name} has several values");
        Some(String::from_utf8(values[0].clone()).unwrap())
    }
}

// === impl Answer ===

impl Answer {
    /// Checks all host calls of the request.
    #[track_caller]
    pub(crate) fn expect_calls(&self, expected: &[&str]) {
        assert_eq!(
            self.calls,
            expected,
            "\nmade:\n  {}\nexpected:\n  {}",
            self.calls.join("\n  "),
            expected.join("\n  ")
        );
    }

    /// The verdict as the access log shows it: decision, rule, status.
    pub(crate) fn verdict(&self) -> (String, String, i32) {
        let header = |name| self.request.header(name).unwrap_or_default();
        let status = if self.forwarded { 200 } else { self.reply.status };
        (header("x-portcullis-decision"), header("x-portcullis-rule"), status)
    }

    /// The lines that were logged.
    pub(crate) fn logged(&self) -> Vec<&str> {
        self.calls.iter().filter_map(|call| call.strip_prefix("log ")).collect()
    }
}

// === impl Guest ===

impl Guest {
    /// An instance after its start function, as the host puts it into the pool.
    pub(crate) fn start(config: &serde_json::Value) -> Self {
        Self::start_with(&config.to_string())
    }

    /// As [`Self::start`], with any text as the configuration.
    pub(crate) fn start_with(config: &str) -> Self {
        let mut store = Store::new(engine(), World::new(config));
        // Measured, not limited.
        store.set_fuel(u64::MAX).unwrap();
        let instance = prepared().instantiate(&mut store).unwrap();
        // Traefik calls whichever of the two there are, in this order; without any it would go on all the same.
        for name in ["_start", "_initialize"] {
            if let Ok(function) = instance.get_typed_func::<(), ()>(&mut store, name) {
                function.call(&mut store, ()).unwrap();
            }
        }
        let handle_request = instance.get_typed_func(&mut store, "handle_request").unwrap();
        let handle_response = instance.get_typed_func(&mut store, "handle_response").unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        Self { store, memory, handle_request, handle_response }
    }

    /// The world outside, for a test to look at and to change.
    pub(crate) fn world(&mut self) -> &mut World {
        self.store.data_mut()
    }

    /// Handles one request.
    #[track_caller]
    pub(crate) fn request(&mut self, request: Request) -> Answer {
        self.try_request(request).unwrap()
    }

    /// As [`Self::request`]; the error is a trap.
    pub(crate) fn try_request(&mut self, request: Request) -> wasmtime::Result<Answer> {
        let world = self.store.data_mut();
        world.request = request;
        world.reply = Reply::default();
        world.calls.clear();
        let before = self.store.get_fuel()?;
        let outcome = self.handle_request.call(&mut self.store, ())?;
        let fuel = before - self.store.get_fuel()?;
        let world = self.store.data_mut();
        // The low half says whether it goes on, the high half is the context. The host never ends a request of which it
        // was told anything but 0 and that does not go on.
        let (context, forwarded) = (i32::try_from(outcome >> 32).unwrap(), outcome & 0xffff_ffff == 1);
        assert!(outcome == 0 || forwarded, "{outcome:#x}");
        assert_eq!(forwarded, world.reply.status == 0, "either forwarded or answered");
        Ok(Answer {
            forwarded,
            context,
            calls: std::mem::take(&mut world.calls),
            reply: std::mem::take(&mut world.reply),
            request: world.request.clone(),
            fuel,
        })
    }

    /// Handles the response of a request that was forwarded.
    pub(crate) fn response(&mut self, is_error: bool) -> wasmtime::Result<Vec<String>> {
        self.finish(0, is_error)
    }

    /// As [`Self::response`], with the context of the request.
    pub(crate) fn finish(&mut self, context: i32, is_error: bool) -> wasmtime::Result<Vec<String>> {
        self.store.data_mut().calls.clear();
        self.handle_response.call(&mut self.store, (context, i32::from(is_error)))?;
        Ok(std::mem::take(&mut self.store.data_mut().calls))
    }

    /// Size of the linear memory in bytes. It never shrinks.
    pub(crate) fn memory_bytes(&mut self) -> usize {
        self.memory.data_size(&self.store)
    }

    /// Puts a file into the mount, in place of the one with that name.
    pub(crate) fn publish(&mut self, name: &str, bytes: Vec<u8>) {
        self.world().files.insert(name.to_owned(), Arc::new(bytes));
    }

    /// Mounts a folder as the state mount. Before the first request only: WASI lists its mounts once.
    pub(crate) fn mount_state(&mut self, folder: &StateFolder) {
        self.world().state = Some(folder.clone());
    }
}

// === impl World ===

impl World {
    fn new(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            request: Request::default(),
            reply: Reply::default(),
            calls: Vec::new(),
            files: BTreeMap::new(),
            open: BTreeMap::new(),
            state: None,
            open_state: BTreeMap::new(),
            before: None,
            now_ms: START_MS,
            read_limit: usize::MAX,
            reads_fail: false,
            clock_traps: false,
            removal_fails: false,
        }
    }
}

// === the module ===

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        // The module runs for milliseconds: what counts is how fast it is compiled, by a compiler in debug mode.
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::None).cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
        config.consume_fuel(true);
        Engine::new(&config).unwrap()
    })
}

/// The module, compiled once for all tests, with nothing but the scripted calls to import.
fn prepared() -> &'static InstancePre<World> {
    static PREPARED: OnceLock<InstancePre<World>> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let mut linker = Linker::new(engine());
        http::add(&mut linker);
        wasi::add(&mut linker);
        linker.instantiate_pre(module()).unwrap()
    })
}

/// The module itself.
pub(crate) fn module() -> &'static Module {
    static MODULE: OnceLock<Module> = OnceLock::new();
    MODULE.get_or_init(|| Module::new(engine(), std::fs::read(wasm_path()).unwrap()).unwrap())
}

/// Where the built module is.
pub(crate) fn wasm_path() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
            let given = std::env::var_os("PORTCULLIS_WASM").map(PathBuf::from);
            let path = given.clone().unwrap_or_else(|| root.join("dist/plugin.wasm"));
            if !path.exists() {
                let required = std::env::var("PORTCULLIS_REQUIRE").is_ok_and(|value| value == "1");
                assert!(!required && given.is_none(), "there is no {}", path.display());
                let built =
                    std::process::Command::new(env!("CARGO")).args(["xtask", "wasm"]).current_dir(root).status();
                assert!(built.unwrap().success(), "`cargo xtask wasm` failed");
            }
            path
        })
        .clone()
}
