//! Ports from the kernel, so that parallel runs never meet.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};

/// A loopback address nobody listens on at the moment.
///
/// For processes that want the number beforehand. Between this call and their own bind somebody else could take it: the
/// kernel hands out other numbers first, so that this is rare, and the process then fails loudly at start.
pub fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("asking the kernel for a port")?;
    listener.local_addr().context("reading the port")
}
