//! The guest's memory, as the scripted calls read and write it.

use super::World;
use wasmtime::{Caller, Extern, Memory};

fn memory(caller: &mut Caller<'_, World>) -> Memory {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { panic!("the guest exports no memory") };
    memory
}

/// Bytes at a pointer of the guest.
pub(super) fn bytes(caller: &mut Caller<'_, World>, at: i32, len: i32) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(len).unwrap()];
    memory(caller).read(caller, usize::try_from(at).unwrap(), &mut bytes).unwrap();
    bytes
}

/// Text at a pointer of the guest.
pub(super) fn text(caller: &mut Caller<'_, World>, at: i32, len: i32) -> String {
    String::from_utf8(bytes(caller, at, len)).unwrap()
}

/// Writes to a pointer of the guest.
pub(super) fn write(caller: &mut Caller<'_, World>, at: i32, bytes: &[u8]) {
    memory(caller).write(caller, usize::try_from(at).unwrap(), bytes).unwrap();
}

/// A 32-bit number at a pointer of the guest.
pub(super) fn number(caller: &mut Caller<'_, World>, at: i32) -> i32 {
    i32::from_le_bytes(bytes(caller, at, 4).try_into().unwrap())
}

/// Writes to a buffer of the guest if it is large enough; in any case answers the length that it takes.
pub(super) fn fill(caller: &mut Caller<'_, World>, at: i32, limit: i32, bytes: &[u8]) -> i32 {
    let len = i32::try_from(bytes.len()).unwrap();
    if len <= limit {
        write(caller, at, bytes);
    }
    len
}
