//! The WASI calls that the plugin makes: the wall clock, and files of one mounted directory, read-only.
//!
//! Calls that only std's panic handling imports are there and trap.

use super::{MOUNT, World, memory};
use std::sync::Arc;
use wasmtime::{Caller, Error, Linker};

type Guest<'a> = Caller<'a, World>;

/// The descriptor of the mount; 0 to 2 are the standard streams.
const MOUNT_FD: i32 = 3;
const FIRST_FILE_FD: i32 = 10;

const SUCCESS: i32 = 0;
const EBADF: i32 = 8;
const EIO: i32 = 29;
const ENOENT: i32 = 44;

/// The right to write, which the guest must not ask for: the mount is read-only.
const RIGHT_FD_WRITE: i64 = 1 << 6;

fn note(guest: &mut Guest<'_>, call: String) {
    guest.data_mut().calls.push(call);
}

pub(super) fn add(linker: &mut Linker<World>) {
    let module = "wasi_snapshot_preview1";
    linker
        .func_wrap(
            module,
            "clock_time_get",
            |mut guest: Guest<'_>, clock: i32, _precision: i64, at: i32| -> Result<i32, Error> {
                // The gateway's monotonic clock is a fake.
                assert_eq!(clock, 0, "only wall time may be asked for");
                note(&mut guest, "clock".to_owned());
                if guest.data().clock_traps {
                    return Err(Error::msg("the clock traps"));
                }
                let nanoseconds = guest.data().now_ms * 1_000_000;
                memory::write(&mut guest, at, &nanoseconds.to_le_bytes());
                Ok(SUCCESS)
            },
        )
        .unwrap();
    add_mount(linker, module);
    add_files(linker, module);
    for name in ["environ_get", "environ_sizes_get"] {
        linker
            .func_wrap(module, name, move |_: Guest<'_>, _: i32, _: i32| -> Result<i32, Error> {
                Err(Error::msg(format!("unexpected call of {name}")))
            })
            .unwrap();
    }
    linker
        .func_wrap(module, "fd_write", |_: Guest<'_>, _: i32, _: i32, _: i32, _: i32| -> Result<i32, Error> {
            Err(Error::msg("unexpected call of fd_write"))
        })
        .unwrap();
    linker
        .func_wrap(module, "proc_exit", |_: Guest<'_>, _: i32| -> Result<(), Error> {
            Err(Error::msg("unexpected call of proc_exit"))
        })
        .unwrap();
}

fn add_mount(linker: &mut Linker<World>, module: &str) {
    linker
        .func_wrap(module, "fd_prestat_get", |mut guest: Guest<'_>, fd: i32, at: i32| {
            note(&mut guest, format!("prestat {fd}"));
            if fd != MOUNT_FD {
                return EBADF;
            }
            // Tag 0 is a directory; then the length of its name.
            memory::write(&mut guest, at, &0_i32.to_le_bytes());
            memory::write(&mut guest, at + 4, &u32::try_from(MOUNT.len()).unwrap().to_le_bytes());
            SUCCESS
        })
        .unwrap();
    linker
        .func_wrap(module, "fd_prestat_dir_name", |mut guest: Guest<'_>, fd: i32, at: i32, len: i32| {
            assert_eq!((fd, usize::try_from(len).unwrap()), (MOUNT_FD, MOUNT.len()));
            note(&mut guest, format!("prestat name {fd}"));
            memory::write(&mut guest, at, MOUNT.as_bytes());
            SUCCESS
        })
        .unwrap();
    linker
        .func_wrap(module, "fd_fdstat_get", |mut guest: Guest<'_>, fd: i32, at: i32| {
            note(&mut guest, format!("fdstat {fd}"));
            let mut stat = [0; 24];
            // File type: directory or regular file; all rights.
            stat[0] = if fd == MOUNT_FD { 3 } else { 4 };
            stat[8..].fill(0xff);
            memory::write(&mut guest, at, &stat);
            SUCCESS
        })
        .unwrap();
}

fn add_files(linker: &mut Linker<World>, module: &str) {
    linker
        .func_wrap(
            module,
            "path_open",
            |mut guest: Guest<'_>,
             directory: i32,
             _lookup: i32,
             path: i32,
             path_len: i32,
             open: i32,
             rights: i64,
             _inheriting: i64,
             flags: i32,
             at: i32| {
                let name = memory::text(&mut guest, path, path_len);
                assert_eq!((directory, open, flags), (MOUNT_FD, 0, 0), "neither created, cut nor appended to");
                assert_eq!(rights & RIGHT_FD_WRITE, 0, "the mount is read-only");
                note(&mut guest, format!("open {name}"));
                let Some(file) = guest.data().files.get(&name).cloned() else { return ENOENT };
                let open = &mut guest.data_mut().open;
                let fd = (FIRST_FILE_FD..FIRST_FILE_FD + 100).find(|fd| !open.contains_key(fd)).unwrap();
                open.insert(fd, file);
                memory::write(&mut guest, at, &fd.to_le_bytes());
                SUCCESS
            },
        )
        .unwrap();
    linker
        .func_wrap(
            module,
            "fd_pread",
            |mut guest: Guest<'_>, fd: i32, vectors: i32, n_vectors: i32, offset: i64, at: i32| {
                assert_eq!(n_vectors, 1);
                let (to, len) = (memory::number(&mut guest, vectors), memory::number(&mut guest, vectors + 4));
                note(&mut guest, "pread".to_owned());
                let world = guest.data();
                let Some(file) = world.open.get(&fd).map(Arc::clone) else { return EBADF };
                if world.reads_fail {
                    return EIO;
                }
                let rest = file.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
                let read = &rest[..rest.len().min(usize::try_from(len).unwrap()).min(world.read_limit)];
                memory::write(&mut guest, to, read);
                memory::write(&mut guest, at, &u32::try_from(read.len()).unwrap().to_le_bytes());
                SUCCESS
            },
        )
        .unwrap();
    linker
        .func_wrap(module, "fd_close", |mut guest: Guest<'_>, fd: i32| {
            note(&mut guest, "close".to_owned());
            if guest.data_mut().open.remove(&fd).is_some() { SUCCESS } else { EBADF }
        })
        .unwrap();
}
