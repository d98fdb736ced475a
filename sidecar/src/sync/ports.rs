//! B: the port that is registered, and which slices carry it (A8).

use k8s_openapi::api::core::v1::ServicePort;

use super::{annotations, note::Notes, subject::Subject};

/// The chosen port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice<'a> {
    /// An entry of `spec.ports`, with the number to register.
    Entry { entry: &'a ServicePort, number: u16 },
    /// The number that the annotation says; every endpoint counts for it (A8, B3).
    Number(u16),
}

impl Choice<'_> {
    /// The port to register at an address that is not an endpoint's.
    pub(super) fn number(&self) -> u16 {
        match self {
            Self::Entry { number, .. } | Self::Number(number) => *number,
        }
    }
}

/// Chooses among the entries for which `number` knows one: the annotation's, else the first (B1-B4).
pub(super) fn choose<'a>(
    subject: &Subject<'a>,
    number: impl Fn(&ServicePort) -> Option<u16>,
    notes: &mut Notes,
) -> Option<Choice<'a>> {
    let entries = || subject.ports().iter().filter_map(|entry| Some((entry, number(entry)?)));
    let default = entries().next().map(|(entry, number)| Choice::Entry { entry, number });
    let Some(text) = subject.annotation(annotations::PORT).map(str::trim) else { return default };
    // A number before a name, as consul-k8s reads it: a port may be called "8080".
    if let Some(number) = annotations::decimal(text) {
        return Some(Choice::Number(number));
    }
    let named = entries().find(|(entry, _)| !text.is_empty() && entry.name.as_deref() == Some(text));
    if let Some((entry, number)) = named {
        return Some(Choice::Entry { entry, number });
    }
    let what = format!("{text:?} is neither a port's name here nor a number, the first port is used");
    notes.warn(
        annotations::PORT,
        what,
        "name a port of spec.ports that has a node port, or write 1 to 65535 in decimal",
    );
    default
}

/// The entry's node port, if it has one (B4). No check of the cluster's node port range: it is configurable (B6).
pub(super) fn node_port(entry: &ServicePort) -> Option<u16> {
    entry.node_port.and_then(valid)
}

/// The entry's own port.
pub(super) fn service_port(entry: &ServicePort) -> Option<u16> {
    valid(entry.port)
}

/// A number that is a port.
pub(super) fn valid(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number > 0)
}
