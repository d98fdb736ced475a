//! Ports from the kernel, so that parallel runs never meet.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

/// What was handed out already: the kernel may name a port again as soon as it is free, and the process that it was asked
/// for has not bound it yet.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A loopback address nobody listens on at the moment, another one at each call.
///
/// For processes that want the number beforehand. Between this call and their own bind somebody else could take it: the
/// kernel hands out other numbers first, so that this is rare, and the process then fails loudly at start.
pub fn free() -> Result<SocketAddr> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("asking the kernel for a port")?;
        let address = listener.local_addr().context("reading the port")?;
        if given.insert(address.port()) {
            return Ok(address);
        }
    }
}
