//! SPIFFE IDs in Consul's shape: `spiffe://<trust domain>[/ap/<partition>]/ns/<namespace>/dc/<datacenter>/svc/<service>`.
//!
//! Only a service's ID can be the source of an intention (consul-policy §1.1); IDs of agents, gateways and servers are
//! [`InvalidSpiffeId::NotAService`]. The parts are compared as they stand: Consul's proxies match the raw text, so a
//! percent-encoded name never matches there and does not here.

use std::fmt;

use crate::model::{DEFAULT_TENANCY, ServiceName};

/// A service's SPIFFE ID, borrowed from its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpiffeId<'a> {
    /// `<cluster uuid>.consul`, in lower case.
    pub trust_domain: &'a str,
    /// Admin partition; `default` when the ID has no `/ap/` part.
    pub partition: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// Datacenter. Never compared: a service of that name in any datacenter is the same source.
    pub datacenter: &'a str,
    /// Service name.
    pub service: &'a str,
}

/// Whose ID it is, kept beyond the text: all of an ID that is ever compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// See [`SpiffeId::trust_domain`].
    pub trust_domain: String,
    /// Partition, namespace and name.
    pub service: ServiceName,
}

/// Why a text is no service's SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpiffeId {
    /// It does not begin with `spiffe://`, or holds bytes outside printable ASCII, a query or a fragment.
    #[error("not a SPIFFE ID")]
    NotSpiffe,
    /// A SPIFFE ID, but of an agent, a gateway, a server or another system.
    #[error("the SPIFFE ID is not that of a service")]
    NotAService,
}

/// SPIFFE's own bound on the length of an ID, in bytes (SPIFFE-ID specification §2.3).
const MAX_LEN: usize = 2048;

impl<'a> SpiffeId<'a> {
    /// Reads an ID.
    pub fn parse(text: &'a str) -> Result<Self, InvalidSpiffeId> {
        let rest = text.strip_prefix("spiffe://").ok_or(InvalidSpiffeId::NotSpiffe)?;
        // A query or a fragment is no part of an ID (SPIFFE-ID specification §2), and would be a part of a name here.
        let belongs = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
        if text.len() > MAX_LEN || !text.bytes().all(belongs) {
            return Err(InvalidSpiffeId::NotSpiffe);
        }
        let mut parts = rest.split('/');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(InvalidSpiffeId::NotAService);
        let trust_domain = part()?;
        let mut label = part()?;
        let mut partition = DEFAULT_TENANCY;
        if label == "ap" {
            partition = part()?;
            // Consul never writes the default partition, and its matcher does not accept it (consul-policy §1.1).
            if partition == DEFAULT_TENANCY {
                return Err(InvalidSpiffeId::NotAService);
            }
            label = part()?;
        }
        let mut labelled =
            |found: &str, wanted: &str| if found == wanted { part() } else { Err(InvalidSpiffeId::NotAService) };
        let namespace = labelled(label, "ns")?;
        let label = labelled("", "")?;
        let datacenter = labelled(label, "dc")?;
        let label = labelled("", "")?;
        let service = labelled(label, "svc")?;
        if parts.next().is_some() {
            return Err(InvalidSpiffeId::NotAService);
        }
        Ok(Self { trust_domain, partition, namespace, datacenter, service })
    }

    /// Whose ID it is.
    pub fn workload(&self) -> Workload {
        let (partition, namespace, name) =
            (self.partition.to_owned(), self.namespace.to_owned(), self.service.to_owned());
        Workload {
            trust_domain: self.trust_domain.to_owned(),
            service: ServiceName { peer: String::new(), partition, namespace, name },
        }
    }
}

impl fmt::Display for SpiffeId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.trust_domain)?;
        if self.partition != DEFAULT_TENANCY {
            write!(f, "/ap/{}", self.partition)?;
        }
        write!(f, "/ns/{}/dc/{}/svc/{}", self.namespace, self.datacenter, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_services_with_and_without_a_partition() {
        for text in
            ["spiffe://td.consul/ns/default/dc/dc1/svc/web", "spiffe://td.consul/ap/blue/ns/team/dc/dc1/svc/web"]
        {
            assert_eq!(SpiffeId::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_everything_that_is_not_exactly_a_service() {
        for text in [
            "",
            "spiffe://",
            "spiffe://td.consul",
            "SPIFFE://td.consul/ns/default/dc/dc1/svc/web",
            "spiffe:///ns/default/dc/dc1/svc/web",
            "spiffe://td.consul/ns//dc/dc1/svc/web",
            "spiffe://td.consul/ns/default/dc/dc1/svc/",
            "spiffe://td.consul/ns/default/dc/dc1/svc/web/",
            "spiffe://td.consul/ns/default/dc/dc1/svc/web/x",
            "spiffe://td.consul/ap/default/ns/default/dc/dc1/svc/web",
            "spiffe://td.consul/agent/client/dc/dc1/id/n1",
            "spiffe://td.consul/gateway/mesh/dc/dc1",
            "spiffe://td.consul/ns/default/dc/dc1/svc/we b",
            "spiffe://td.consul/ns/default/dc/dc1/svc/web?x",
            "spiffe://td.consul/ns/default/dc/dc1/svc/web#x",
            "spiffe://td.consul/ns/default/dc/dc1/svc/wéb",
            "https://td.consul/ns/default/dc/dc1/svc/web",
        ] {
            assert!(SpiffeId::parse(text).is_err(), "{text}");
        }
    }
}
