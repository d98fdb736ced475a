//! The built plugin in wasmtime, on a host that answers from memory and writes nothing down.
//!
//! What is timed is the host's call of `handle_request` from start to end: everything that the guest does for a request,
//! and the host's answers to its calls. Traefik's own runtime and its Go side cost more; `e2e`'s benchmark has that.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use wasmtime::{Caller, Config, Engine, InstancePre, Linker, Memory, Module, OptLevel, Store, TypedFunc};

/// The guest's view of the directory with the snapshot.
const MOUNT: &str = "/policy";
/// Wall time: 2026-11-21, 12:00:00 UTC. It stands still, so that no look at the file falls into a measurement.
pub(crate) const NOW_SECONDS: u64 = 1_795_262_400;

const MOUNT_FD: i32 = 3;
const FILE_FD: i32 = 10;
const SUCCESS: i32 = 0;
const EBADF: i32 = 8;
const ENOENT: i32 = 44;

/// The request in hand: what a browser behind Traefik's own forwarding headers sends, and what the gate adds.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    uri: Vec<u8>,
    /// By lower-case names.
    headers: Vec<(String, Vec<u8>)>,
    /// Names as the host lists them: each ended by NUL.
    names: Vec<u8>,
}

/// The module, compiled, with the host's calls.
pub(crate) struct Plugin {
    engine: Engine,
    prepared: InstancePre<World>,
    /// Size of the module, in bytes.
    pub(crate) bytes: u64,
}

/// An instance.
pub(crate) struct Guest {
    store: Store<World>,
    handle_request: TypedFunc<(), i64>,
}

struct World {
    config: Arc<str>,
    snapshot: Arc<Vec<u8>>,
    request: Arc<Asked>,
    memory: Option<Memory>,
    status: i32,
}

impl Asked {
    pub(crate) fn new(destination: &str, certificate: &str, uri: &str, more: &[(&str, &str)]) -> Arc<Self> {
        let usual = [
            ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("host", "shop.example"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            ("x-forwarded-for", "192.0.2.17"),
            ("x-forwarded-host", "shop.example"),
            ("x-forwarded-proto", "https"),
            ("x-portcullis-destination", destination),
            ("x-forwarded-tls-client-cert", certificate),
        ];
        let headers: Vec<_> =
            usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        let names = headers.iter().flat_map(|(name, _)| name.bytes().chain([0])).collect();
        Arc::new(Self { uri: uri.as_bytes().to_vec(), headers, names })
    }
}

impl Plugin {
    /// Compiles the module; optimized, as Traefik's runtime does it.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let code = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let mut config = Config::new();
        config.cranelift_opt_level(OptLevel::Speed);
        let engine = Engine::new(&config).map_err(failed)?;
        let module = Module::new(&engine, &code).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        add_request(&mut linker).and_then(|()| add_files(&mut linker)).map_err(failed)?;
        // What a request that is measured does not call.
        linker.define_unknown_imports_as_traps(&module).map_err(failed)?;
        let prepared = linker.instantiate_pre(&module).map_err(failed)?;
        Ok(Self { engine, prepared, bytes: code.len() as u64 })
    }

    /// An instance after its start code.
    pub(crate) fn start(&self, snapshot: &Arc<Vec<u8>>) -> Result<Guest> {
        self.start_with(snapshot, "verifiedByTraefik")
    }

    /// As [`Self::start`], with a word for the setting `clientCertificate`.
    pub(crate) fn start_with(&self, snapshot: &Arc<Vec<u8>>, certificates: &str) -> Result<Guest> {
        let config = serde_json::json!({"snapshot": format!("{MOUNT}/policy.snapshot"), "logDenied": "off",
            "clientCertificate": certificates});
        let world = World {
            config: config.to_string().into(),
            snapshot: Arc::clone(snapshot),
            request: Asked::new("", "", "/", &[]),
            memory: None,
            status: 0,
        };
        let mut store = Store::new(&self.engine, world);
        let instance = self.prepared.instantiate(&mut store).map_err(failed)?;
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        for name in ["_start", "_initialize"] {
            if let Ok(function) = instance.get_typed_func::<(), ()>(&mut store, name) {
                function.call(&mut store, ()).map_err(failed)?;
            }
        }
        let handle_request = instance.get_typed_func(&mut store, "handle_request").map_err(failed)?;
        Ok(Guest { store, handle_request })
    }
}

impl Guest {
    /// Handles one request; whether it may go on.
    pub(crate) fn ask(&mut self, request: &Arc<Asked>) -> Result<bool> {
        let world = self.store.data_mut();
        world.request = Arc::clone(request);
        world.status = 0;
        let outcome = self.handle_request.call(&mut self.store, ()).map_err(failed)?;
        ensure!((outcome == 1) == (self.store.data().status == 0), "either forwarded or answered");
        ensure!(self.store.data().status != 503, "the guest has no policy");
        Ok(outcome == 1)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn failed(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:?}")
}

// === host calls ===

type Host<'a> = Caller<'a, World>;

/// The guest's memory and what is outside of it.
fn split<'a>(host: &'a mut Host<'_>) -> Option<(&'a mut [u8], &'a mut World)> {
    let memory = host.data().memory?;
    Some(memory.data_and_store_mut(host))
}

fn range(at: i32, len: usize) -> Option<std::ops::Range<usize>> {
    let at = usize::try_from(at).ok()?;
    Some(at..at.checked_add(len)?)
}

/// Writes if it fits; in any case answers the length. Out of bounds cannot be told from "too long": the caller fails then.
fn fill(memory: &mut [u8], at: i32, limit: i32, bytes: &[u8]) -> i32 {
    if usize::try_from(limit).is_ok_and(|limit| bytes.len() <= limit)
        && let Some(place) = range(at, bytes.len()).and_then(|range| memory.get_mut(range))
    {
        place.copy_from_slice(bytes);
    }
    i32::try_from(bytes.len()).unwrap_or(i32::MAX)
}

fn put<const N: usize>(memory: &mut [u8], at: i32, bytes: [u8; N]) {
    fill(memory, at, i32::MAX, &bytes);
}

fn number(memory: &[u8], at: i32) -> i32 {
    let bytes = range(at, 4).and_then(|range| memory.get(range)).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| i32::from_le_bytes(*bytes))
}

fn add_request(linker: &mut Linker<World>) -> wasmtime::Result<()> {
    let module = "http_handler";
    linker.func_wrap(module, "get_config", |mut host: Host<'_>, at: i32, limit: i32| {
        split(&mut host).map_or(0, |(memory, world)| fill(memory, at, limit, world.config.as_bytes()))
    })?;
    linker.func_wrap(module, "get_method", |mut host: Host<'_>, at: i32, limit: i32| {
        split(&mut host).map_or(0, |(memory, _)| fill(memory, at, limit, b"GET"))
    })?;
    linker.func_wrap(module, "get_uri", |mut host: Host<'_>, at: i32, limit: i32| {
        split(&mut host).map_or(0, |(memory, world)| fill(memory, at, limit, &world.request.uri))
    })?;
    linker.func_wrap(module, "get_header_names", |mut host: Host<'_>, _: i32, at: i32, limit: i32| {
        split(&mut host).map_or(0, |(memory, world)| {
            let request = &world.request;
            list(request.headers.len(), fill(memory, at, limit, &request.names))
        })
    })?;
    linker.func_wrap(
        module,
        "get_header_values",
        |mut host: Host<'_>, _: i32, name: i32, name_len: i32, at: i32, limit: i32| {
            let Some((memory, world)) = split(&mut host) else { return 0 };
            let name = usize::try_from(name_len).ok().and_then(|len| memory.get(range(name, len)?)).unwrap_or_default();
            let found = world.request.headers.iter().find(|(known, _)| known.as_bytes() == name);
            let Some((_, value)) = found else { return 0 };
            let value = [value.as_slice(), &[0]].concat();
            list(1, fill(memory, at, limit, &value))
        },
    )?;
    linker.func_wrap(module, "set_header_value", |_: Host<'_>, _: i32, _: i32, _: i32, _: i32, _: i32| {})?;
    linker.func_wrap(module, "remove_header", |_: Host<'_>, _: i32, _: i32, _: i32| {})?;
    linker.func_wrap(module, "set_status_code", |mut host: Host<'_>, code: i32| host.data_mut().status = code)?;
    linker.func_wrap(module, "write_body", |_: Host<'_>, _: i32, _: i32, _: i32| {})?;
    linker.func_wrap(module, "log", |_: Host<'_>, _: i32, _: i32, _: i32| {})?;
    linker.func_wrap("wasi_snapshot_preview1", "clock_time_get", |mut host: Host<'_>, _: i32, _: i64, at: i32| {
        if let Some((memory, _)) = split(&mut host) {
            put(memory, at, (NOW_SECONDS * 1_000_000_000).to_le_bytes());
        }
        SUCCESS
    })?;
    Ok(())
}

/// `count << 32 | length`
fn list(count: usize, len: i32) -> i64 {
    i64::try_from(count).unwrap_or(0) << 32 | i64::from(len)
}

/// One directory with one file.
fn add_files(linker: &mut Linker<World>) -> wasmtime::Result<()> {
    let module = "wasi_snapshot_preview1";
    linker.func_wrap(module, "fd_prestat_get", |mut host: Host<'_>, fd: i32, at: i32| {
        if fd != MOUNT_FD {
            return EBADF;
        }
        if let Some((memory, _)) = split(&mut host) {
            put(memory, at, [0; 4]);
            put(memory, at + 4, u32::try_from(MOUNT.len()).unwrap_or(0).to_le_bytes());
        }
        SUCCESS
    })?;
    linker.func_wrap(module, "fd_prestat_dir_name", |mut host: Host<'_>, _: i32, at: i32, len: i32| {
        if let Some((memory, _)) = split(&mut host) {
            fill(memory, at, len, MOUNT.as_bytes());
        }
        SUCCESS
    })?;
    linker.func_wrap(module, "fd_fdstat_get", |mut host: Host<'_>, fd: i32, at: i32| {
        let mut stat = [0xff_u8; 24];
        // File type: directory or regular file; then flags, none; then all rights.
        stat[..8].copy_from_slice(&[if fd == MOUNT_FD { 3 } else { 4 }, 0, 0, 0, 0, 0, 0, 0]);
        if let Some((memory, _)) = split(&mut host) {
            put(memory, at, stat);
        }
        SUCCESS
    })?;
    linker.func_wrap(
        module,
        "path_open",
        |mut host: Host<'_>, _: i32, _: i32, path: i32, len: i32, _: i32, _: i64, _: i64, _: i32, at: i32| {
            let Some((memory, _)) = split(&mut host) else { return EBADF };
            let name = usize::try_from(len).ok().and_then(|len| memory.get(range(path, len)?)).unwrap_or_default();
            if name != b"policy.snapshot" {
                return ENOENT;
            }
            put(memory, at, FILE_FD.to_le_bytes());
            SUCCESS
        },
    )?;
    linker.func_wrap(
        module,
        "fd_pread",
        |mut host: Host<'_>, fd: i32, vectors: i32, _: i32, offset: i64, at: i32| {
            let Some((memory, world)) = split(&mut host) else { return EBADF };
            let (to, len) = (number(memory, vectors), number(memory, vectors + 4));
            let rest = usize::try_from(offset).ok().and_then(|offset| world.snapshot.get(offset..));
            let (FILE_FD, Some(rest)) = (fd, rest) else { return EBADF };
            let read = &rest[..rest.len().min(usize::try_from(len).unwrap_or(0))];
            fill(memory, to, len, read);
            put(memory, at, u32::try_from(read.len()).unwrap_or(0).to_le_bytes());
            SUCCESS
        },
    )?;
    linker.func_wrap(module, "fd_close", |_: Host<'_>, _: i32| SUCCESS)?;
    Ok(())
}
