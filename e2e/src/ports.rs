//! Ports for processes that want the number beforehand, so that parallel runs never meet.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

/// What was handed out already: the process that it was asked for may not have bound it yet.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Below are ports of well-known services.
const LOWEST: u16 = 10_000;
/// Where Linux begins to take ports for connections, unless it is told otherwise.
const EPHEMERAL: u16 = 32_768;
/// How often a port may be somebody's.
const ATTEMPTS: usize = 1000;

/// A loopback address nobody listens on at the moment, another one at each call.
///
/// Not one that the kernel would give to a connection: Consul and Envoy open many, and between this call and the process's
/// own bind one of them would take it. Between two processes of tests that is left to chance, and the process then fails
/// loudly at start.
pub fn free() -> Result<SocketAddr> {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let range = range();
    let mut candidates = std::iter::repeat_with(|| fastrand::u16(range.clone())).take(ATTEMPTS);
    let free = |port: &u16| !given.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = candidates.find(free).with_context(|| format!("no free port in {range:?}"))?;
    given.insert(port);
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

/// Ports that no connection gets.
fn range() -> Range<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = text.split_ascii_whitespace().next().and_then(|port| port.parse().ok()).unwrap_or(EPHEMERAL);
    // Where connections may have any port there is no better one.
    if first > LOWEST * 2 { LOWEST..first } else { LOWEST..u16::MAX }
}
