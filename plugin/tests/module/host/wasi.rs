//! The WASI calls that the plugin makes: the wall clock, files of one mounted directory, read-only, and where a test wants
//! it those of a second one that can be written to.
//!
//! Calls that only std's panic handling imports are there and trap.

use super::{MOUNT, STATE_MOUNT, World, memory, state::Open};
use std::sync::Arc;
use wasmtime::{Caller, Error, Linker};

type Guest<'a> = Caller<'a, World>;

/// The descriptor of the mount; 0 to 2 are the standard streams.
const MOUNT_FD: i32 = 3;
/// The descriptor of the state mount.
const STATE_FD: i32 = 4;
const FIRST_FILE_FD: i32 = 10;
const FIRST_STATE_FILE_FD: i32 = 200;

const SUCCESS: i32 = 0;
const EBADF: i32 = 8;
const EEXIST: i32 = 20;
const EIO: i32 = 29;
const ENOENT: i32 = 44;
const ENOSPC: i32 = 51;
const EROFS: i32 = 69;

const RIGHT_FD_READ: i64 = 1 << 1;
/// The right to write, which the guest must not ask for on the policy mount: it is read-only.
const RIGHT_FD_WRITE: i64 = 1 << 6;
/// Open flag: make the file if it is not there.
const CREATE: i32 = 1;
/// Descriptor flag: every write goes to the end.
const APPEND: i32 = 1;
/// The type of a regular file, and of a folder.
const FILE: u8 = 4;
const FOLDER: u8 = 3;

fn note(guest: &mut Guest<'_>, call: String) {
    let world = guest.data_mut();
    if world.before.as_ref().is_some_and(|(begins, _)| call.starts_with(begins))
        && let Some((_, others)) = world.before.take()
    {
        others();
    }
    world.calls.push(call);
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
    add_writing(linker, module);
    for name in ["environ_get", "environ_sizes_get"] {
        linker
            .func_wrap(module, name, move |_: Guest<'_>, _: i32, _: i32| -> Result<i32, Error> {
                Err(Error::msg(format!("unexpected call of {name}")))
            })
            .unwrap();
    }
    add_appending(linker, module);
    add_folders(linker, module);
    linker
        .func_wrap(module, "proc_exit", |_: Guest<'_>, _: i32| -> Result<(), Error> {
            Err(Error::msg("unexpected call of proc_exit"))
        })
        .unwrap();
}

/// The name of a mounted directory.
fn mount(guest: &Guest<'_>, fd: i32) -> Option<&'static str> {
    match fd {
        MOUNT_FD => Some(MOUNT),
        STATE_FD => guest.data().state.is_some().then_some(STATE_MOUNT),
        _ => None,
    }
}

fn add_mount(linker: &mut Linker<World>, module: &str) {
    linker
        .func_wrap(module, "fd_prestat_get", |mut guest: Guest<'_>, fd: i32, at: i32| {
            note(&mut guest, format!("prestat {fd}"));
            let Some(name) = mount(&guest, fd) else { return EBADF };
            // Tag 0 is a directory; then the length of its name.
            memory::write(&mut guest, at, &0_i32.to_le_bytes());
            memory::write(&mut guest, at + 4, &u32::try_from(name.len()).unwrap().to_le_bytes());
            SUCCESS
        })
        .unwrap();
    linker
        .func_wrap(module, "fd_prestat_dir_name", |mut guest: Guest<'_>, fd: i32, at: i32, len: i32| {
            let name = mount(&guest, fd).unwrap();
            assert_eq!(usize::try_from(len).unwrap(), name.len());
            note(&mut guest, format!("prestat name {fd}"));
            memory::write(&mut guest, at, name.as_bytes());
            SUCCESS
        })
        .unwrap();
    linker
        .func_wrap(module, "fd_fdstat_get", |mut guest: Guest<'_>, fd: i32, at: i32| {
            note(&mut guest, format!("fdstat {fd}"));
            let mut stat = [0; 24];
            // File type: directory or regular file; all rights.
            stat[0] = if mount(&guest, fd).is_some() { FOLDER } else { FILE };
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
                if directory == STATE_FD {
                    assert_eq!((open & !CREATE, flags & !APPEND), (0, 0), "never cut");
                    assert_ne!(rights & RIGHT_FD_READ, 0);
                    let how = ["open", "make", "append", "make"][usize::try_from(open | flags << 1).unwrap()];
                    note(&mut guest, format!("{how} state {name}"));
                    let writes = rights & RIGHT_FD_WRITE != 0;
                    return match open_state(&mut guest, name, open == CREATE, writes, flags == APPEND) {
                        Ok(fd) => {
                            memory::write(&mut guest, at, &fd.to_le_bytes());
                            SUCCESS
                        }
                        Err(errno) => errno,
                    };
                }
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
                let offset = usize::try_from(offset).unwrap();
                if let Some(Open::File { file, .. }) = guest.data().open_state.get(&fd).cloned() {
                    note(&mut guest, format!("pread state {len} at {offset}"));
                    if folder(&guest).lock().reads_fail {
                        return EIO;
                    }
                    let bytes = file.lock().unwrap();
                    let rest = bytes.get(offset..).unwrap_or_default();
                    let read = &rest[..rest.len().min(usize::try_from(len).unwrap())];
                    memory::write(&mut guest, to, read);
                    memory::write(&mut guest, at, &u32::try_from(read.len()).unwrap().to_le_bytes());
                    return SUCCESS;
                }
                note(&mut guest, "pread".to_owned());
                let world = guest.data();
                let Some(file) = world.open.get(&fd).map(Arc::clone) else { return EBADF };
                if world.reads_fail {
                    return EIO;
                }
                let rest = file.get(offset..).unwrap_or_default();
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
            let world = guest.data_mut();
            if world.open.remove(&fd).is_some() || world.open_state.remove(&fd).is_some() { SUCCESS } else { EBADF }
        })
        .unwrap();
}

fn add_writing(linker: &mut Linker<World>, module: &str) {
    linker
        .func_wrap(
            module,
            "fd_pwrite",
            |mut guest: Guest<'_>, fd: i32, vectors: i32, n_vectors: i32, offset: i64, at: i32| {
                assert_eq!(n_vectors, 1);
                let (from, len) = (memory::number(&mut guest, vectors), memory::number(&mut guest, vectors + 4));
                let bytes = memory::bytes(&mut guest, from, len);
                note(&mut guest, format!("pwrite state {len} at {offset}"));
                let Some(Open::File { file, writes: true, appends: false, .. }) =
                    guest.data().open_state.get(&fd).cloned()
                else {
                    return EBADF;
                };
                let room = folder(&guest).lock().room.unwrap_or(usize::MAX);
                if room == 0 {
                    return ENOSPC;
                }
                let written = &bytes[..bytes.len().min(room)];
                let mut file = file.lock().unwrap();
                let start = usize::try_from(offset).unwrap();
                let end = start + written.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[start..end].copy_from_slice(written);
                memory::write(&mut guest, at, &u32::try_from(written.len()).unwrap().to_le_bytes());
                SUCCESS
            },
        )
        .unwrap();
}

/// Writing to the end, and asking where that was.
fn add_appending(linker: &mut Linker<World>, module: &str) {
    linker
        .func_wrap(module, "fd_write", |mut guest: Guest<'_>, fd: i32, vectors: i32, n_vectors: i32, at: i32| {
            assert_eq!(n_vectors, 1);
            let (from, len) = (memory::number(&mut guest, vectors), memory::number(&mut guest, vectors + 4));
            let bytes = memory::bytes(&mut guest, from, len);
            note(&mut guest, format!("write state {len}"));
            let room = folder(&guest).lock().room.unwrap_or(usize::MAX);
            let open = guest.data_mut().open_state.get_mut(&fd);
            let Some(Open::File { file, writes: true, appends: true, position }) = open else { return EBADF };
            if room == 0 {
                return ENOSPC;
            }
            let written = &bytes[..bytes.len().min(room)];
            let mut file = file.lock().unwrap();
            file.extend_from_slice(written);
            *position = file.len();
            drop(file);
            memory::write(&mut guest, at, &u32::try_from(written.len()).unwrap().to_le_bytes());
            SUCCESS
        })
        .unwrap();
    linker
        .func_wrap(module, "fd_seek", |mut guest: Guest<'_>, fd: i32, offset: i64, whence: i32, at: i32| {
            assert_eq!((offset, whence), (0, 1), "it is only asked where the descriptor stands");
            note(&mut guest, "tell state".to_owned());
            let Some(Open::File { position, .. }) = guest.data().open_state.get(&fd) else { return EBADF };
            let position = u64::try_from(*position).unwrap();
            memory::write(&mut guest, at, &position.to_le_bytes());
            SUCCESS
        })
        .unwrap();
}

fn add_folders(linker: &mut Linker<World>, module: &str) {
    linker
        .func_wrap(module, "fd_readdir", |mut guest: Guest<'_>, fd: i32, buf: i32, len: i32, cookie: i64, at: i32| {
            let Some(Open::Folder(parent)) = guest.data().open_state.get(&fd).cloned() else { return EBADF };
            note(&mut guest, format!("readdir state {parent}"));
            if folder(&guest).lock().reads_fail {
                return EIO;
            }
            let own = [".", ".."].map(str::to_owned);
            let names = own.into_iter().chain(folder(&guest).lock().names_in(&parent));
            let mut entries = Vec::new();
            for (name, next) in names.zip(1_u64..).skip(usize::try_from(cookie).unwrap()) {
                entries.extend_from_slice(&next.to_le_bytes());
                entries.extend_from_slice(&[0; 8]);
                entries.extend_from_slice(&u32::try_from(name.len()).unwrap().to_le_bytes());
                entries.extend_from_slice(&[FILE, 0, 0, 0]);
                entries.extend_from_slice(name.as_bytes());
            }
            entries.truncate(usize::try_from(len).unwrap());
            memory::write(&mut guest, buf, &entries);
            memory::write(&mut guest, at, &u32::try_from(entries.len()).unwrap().to_le_bytes());
            SUCCESS
        })
        .unwrap();
    linker
        .func_wrap(module, "path_create_directory", |mut guest: Guest<'_>, fd: i32, path: i32, len: i32| {
            let name = memory::text(&mut guest, path, len);
            assert_eq!(fd, STATE_FD, "the policy mount is read-only");
            note(&mut guest, format!("mkdir state {name}"));
            let mut folder = folder(&guest).lock();
            if folder.read_only {
                return EROFS;
            }
            if !folder.has_place_for(&name) {
                return ENOENT;
            }
            if folder.files.contains_key(&name) || !folder.folders.insert(name) { EEXIST } else { SUCCESS }
        })
        .unwrap();
    linker
        .func_wrap(module, "path_unlink_file", |mut guest: Guest<'_>, fd: i32, path: i32, len: i32| {
            let name = memory::text(&mut guest, path, len);
            assert_eq!(fd, STATE_FD, "the policy mount is read-only");
            note(&mut guest, format!("unlink state {name}"));
            let mut folder = folder(&guest).lock();
            if folder.read_only {
                return EROFS;
            }
            if folder.files.remove(&name).is_some() { SUCCESS } else { ENOENT }
        })
        .unwrap();
}

fn folder<'a>(guest: &'a Guest<'_>) -> &'a super::StateFolder {
    guest.data().state.as_ref().unwrap()
}

/// Opens a file or folder of the state mount, and makes the file if that is wanted; the error is WASI's number.
fn open_state(guest: &mut Guest<'_>, name: String, create: bool, writes: bool, appends: bool) -> Result<i32, i32> {
    let opened = {
        let mut folder = folder(guest).lock();
        if folder.folders.contains(&name) {
            Open::Folder(name)
        } else if writes && folder.read_only {
            return Err(EROFS);
        } else {
            if !folder.files.contains_key(&name) {
                if !create || !folder.has_place_for(&name) {
                    return Err(ENOENT);
                }
            }
            let file = folder.files.entry(name).or_default().clone();
            Open::File { file, writes, appends, position: 0 }
        }
    };
    let open = &mut guest.data_mut().open_state;
    let fd = (FIRST_STATE_FILE_FD..FIRST_STATE_FILE_FD + 100).find(|fd| !open.contains_key(fd)).unwrap();
    open.insert(fd, opened);
    Ok(fd)
}
