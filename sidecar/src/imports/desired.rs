//! From Consul's catalog to the objects that a Kubernetes cluster should hold. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use super::{
    config::{Kind, ToKubernetes, is_name},
    object::Form,
    slices::{Slice, slices},
};
use crate::sync::{CLUSTER_MARK, Registration, SOURCE_MARK};

/// Consul's own service.
const CONSUL: &str = "consul";
/// What consul-k8s writes on the pods that it puts into the mesh.
const POD_MARK: &str = "k8s-namespace";
/// How many names one line of the log holds.
const NAMED: usize = 10;

/// What a cluster should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Desired {
    /// By the names that they have in Kubernetes.
    pub(super) services: BTreeMap<String, Wanted>,
    /// Names whose objects stay as they are, whatever they are.
    pub(super) held: BTreeSet<String>,
    /// What is wrong, a line each.
    pub(super) lines: BTreeSet<String>,
    /// How many Consul services cannot appear.
    pub(super) left_out: usize,
}

/// A service of Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its name there.
    pub(super) consul: String,
    pub(super) form: Form,
    /// By their own names.
    pub(super) slices: BTreeMap<String, Slice>,
}

/// What cannot be used, by why.
#[derive(Default)]
struct Wrong<'a> {
    names: BTreeSet<&'a str>,
    pairs: BTreeSet<&'a str>,
    host_names: BTreeSet<&'a str>,
    unusable: BTreeSet<&'a str>,
}

/// What the cluster `cluster` should hold of these instances. `odd` are names that cannot even be asked for.
pub(super) fn desired(instances: &[Registration], odd: &[String], cluster: &str, config: &ToKubernetes) -> Desired {
    let mut desired = Desired::default();
    if config.remove {
        return desired;
    }
    let selection = config.selection();
    let mut by_consul = BTreeMap::<&str, Vec<&Registration>>::new();
    for instance in instances {
        let name = instance.service.service.as_str();
        if name != CONSUL && selection.selects(name) && comes_from_outside(instance, cluster, config.other_clusters) {
            by_consul.entry(name).or_default().push(instance);
        }
    }
    // Consul takes names that differ by case alone for one, and answers for both.
    let mut by_name = BTreeMap::<String, Vec<&str>>::new();
    for consul in by_consul.keys() {
        by_name.entry(format!("{}{}", config.prefix, consul.to_ascii_lowercase())).or_default().push(consul);
    }
    let mut wrong = Wrong { names: odd.iter().map(String::as_str).collect(), ..Wrong::default() };
    for (name, consuls) in by_name {
        let [consul] = consuls.as_slice() else {
            wrong.pairs.extend(&consuls);
            desired.held.insert(name);
            continue;
        };
        if !is_name(&name) || name != format!("{}{consul}", config.prefix) {
            wrong.names.insert(consul);
            continue;
        }
        let instances = by_consul.get(consul).map(Vec::as_slice).unwrap_or_default();
        let wanted = match config.kind {
            Kind::ExternalName => {
                let target = format!("{consul}.service.{}", config.domain);
                Wanted { consul: (*consul).to_owned(), form: Form::ExternalName(target), slices: BTreeMap::new() }
            }
            Kind::Endpoints => of_instances(&name, consul, instances, config, &mut wrong),
        };
        desired.services.insert(name, wanted);
    }
    wrong.tell(&mut desired);
    desired
}

fn of_instances<'a>(
    name: &str,
    consul: &'a str,
    instances: &[&Registration],
    config: &ToKubernetes,
    wrong: &mut Wrong<'a>,
) -> Wanted {
    let (mut endpoints, mut ports) = (BTreeMap::new(), BTreeMap::<u16, usize>::new());
    for instance in instances {
        let (service, port) = (&instance.service, instance.service.port);
        *ports.entry(port).or_default() += 1;
        let text = if service.address.is_empty() { &instance.address } else { &service.address };
        let Ok(address) = text.parse::<IpAddr>() else {
            wrong.host_names.insert(consul);
            continue;
        };
        let address = address.to_canonical();
        if !is_reachable(address) {
            wrong.unusable.insert(consul);
            continue;
        }
        // Registered twice, it is one place: whoever says that it works is right.
        *endpoints.entry(SocketAddr::new(address, port)).or_insert(false) |= instance.check.status != "critical";
    }
    let most = ports.iter().max_by_key(|(port, number)| (**number, std::cmp::Reverse(**port)));
    // There is no service without an instance.
    let port = config.port.or(most.map(|(port, _)| *port)).unwrap_or_default();
    let slices = slices(name, &endpoints, config.endpoints_per_slice);
    Wanted { consul: consul.to_owned(), form: Form::Endpoints { port }, slices }
}

/// Whether an instance is none of this cluster's own, whoever registered it: what comes from Kubernetes says so. Of what does not
/// say from which cluster, as of consul-k8s, nobody knows that it is another one.
fn comes_from_outside(instance: &Registration, cluster: &str, other_clusters: bool) -> bool {
    let meta = &instance.service.meta;
    let is_kubernetes = meta.get(SOURCE_MARK.0).is_some_and(|source| source == SOURCE_MARK.1);
    match meta.get(CLUSTER_MARK) {
        Some(of) => other_clusters && of != cluster,
        None => !is_kubernetes && !meta.contains_key(POD_MARK),
    }
}

/// Whether Kubernetes takes an address for an endpoint: none of the node itself or its link.
fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => {
            !(it.is_unspecified() || it.is_loopback() || it.is_link_local() || it.is_multicast() || it.is_broadcast())
        }
        IpAddr::V6(it) => !(it.is_unspecified() || it.is_loopback() || it.is_unicast_link_local() || it.is_multicast()),
    }
}

// === impl Wrong ===

impl Wrong<'_> {
    /// A line for each reason: whoever may register in Consul must not be able to fill the log.
    fn tell(self, desired: &mut Desired) {
        desired.left_out = self.names.len() + self.pairs.len();
        let all = [
            (
                self.names,
                "cannot be the names of Kubernetes Services, they do not appear",
                "use a-z, 0-9 and -, a letter first, at most 63 bytes with the prefix, or leave them out by except",
            ),
            (
                self.pairs,
                "differ by upper and lower case alone, what is in Kubernetes of them stays as it is",
                "deregister one of them",
            ),
            (
                self.host_names,
                "have instances with host names for addresses, which fit into no EndpointSlice; these are left out",
                "register addresses, or use kind: externalName",
            ),
            (
                self.unusable,
                "have instances with addresses that mean something else on every host; these are left out",
                "register addresses that can be reached from the cluster",
            ),
        ];
        for (names, what, hint) in all {
            let shown: Vec<_> = names.iter().take(NAMED).map(|name| format!("{name:?}")).collect();
            let more = names.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            if !shown.is_empty() {
                desired.lines.insert(format!("services in Consul: {}{more} {what}; {hint}", shown.join(", ")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imports::testing::{config, instance};

    fn of(instances: &[Registration], more: &str) -> Desired {
        desired(instances, &[], "east", &config(more))
    }

    fn places(desired: &Desired, service: &str) -> Vec<String> {
        let slices = desired.services[service].slices.values();
        let mut found: Vec<_> = slices
            .flat_map(|slice| {
                slice.endpoints.iter().map(move |(address, ready)| format!("{address}:{} {ready}", slice.port))
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn instances_become_endpoints_with_their_readiness() {
        let found = of(
            &[
                instance("db", "192.0.2.1", 5432, "passing"),
                instance("db", "192.0.2.2", 5432, "critical"),
                instance("db", "192.0.2.3", 5433, "warning"),
                instance("db", "2001:db8::1", 5432, "passing"),
                instance("db", "::ffff:192.0.2.4", 5432, "passing"),
            ],
            "",
        );
        assert_eq!(found.services["db"].form, Form::Endpoints { port: 5432 });
        assert_eq!(
            places(&found, "db"),
            [
                "192.0.2.1:5432 true",
                "192.0.2.2:5432 false",
                "192.0.2.3:5433 true",
                "192.0.2.4:5432 true",
                "2001:db8::1:5432 true"
            ]
        );
        assert!(found.lines.is_empty());
    }

    #[test]
    fn what_comes_from_kubernetes_does_not_go_back() {
        let marked = |marks: &[(&str, &str)]| {
            let mut instance = instance("web", "192.0.2.1", 80, "passing");
            instance.service.meta = marks.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            vec![instance]
        };
        for (marks, by_default, with_others) in [
            (&[][..], true, true),
            (&[("external-source", "nomad")], true, true),
            (&[("external-source", "kubernetes")], false, false),
            (&[("external-source", "kubernetes"), ("external-k8s-cluster", "east")], false, false),
            (&[("external-source", "kubernetes"), ("external-k8s-cluster", "west")], false, true),
            // A mark alone is enough.
            (&[("external-k8s-cluster", "east")], false, false),
            (&[("k8s-namespace", "shop"), ("pod-name", "x")], false, false),
            (&[("external-source", "portcullis")], true, true),
        ] {
            assert_eq!(of(&marked(marks), "").services.len(), usize::from(by_default), "{marks:?}");
            let others = of(&marked(marks), r#", "otherClusters": true"#);
            assert_eq!(others.services.len(), usize::from(with_others), "{marks:?}");
        }
    }

    #[test]
    fn names_that_kubernetes_does_not_take_are_told_and_left_out() {
        let long = "a".repeat(64);
        let names = ["a_b", "Web", "a.b", "1a", &long, "consul", "fine"];
        let instances = names.map(|name| instance(name, "192.0.2.1", 80, "passing"));
        let found = of(&instances, "");
        assert_eq!(found.services.keys().collect::<Vec<_>>(), ["fine"]);
        assert_eq!((found.left_out, found.lines.len()), (5, 1), "{:?}", found.lines);
        let odd = desired(&instances, &["../x".to_owned()], "east", &config(""));
        assert!(odd.lines.first().unwrap().contains("\"../x\""), "{:?}", odd.lines);
        let prefixed = of(&instances, r#", "prefix": "vm-""#);
        assert_eq!(prefixed.services.keys().collect::<Vec<_>>(), ["vm-1a", "vm-fine"]);
    }

    #[test]
    fn names_that_differ_by_case_alone_leave_everything_as_it_is() {
        let found = of(&["web", "WEB", "db"].map(|name| instance(name, "192.0.2.1", 80, "passing")), "");
        assert_eq!(found.services.keys().collect::<Vec<_>>(), ["db"]);
        assert_eq!(found.held.iter().collect::<Vec<_>>(), ["web"]);
        assert!(found.lines.first().unwrap().contains("stays as it is"));
    }

    #[test]
    fn addresses_that_cannot_be_endpoints_are_told_and_the_service_stays() {
        let addresses =
            ["db.example.com", "127.0.0.1", "169.254.1.1", "fe80::1", "::1", "0.0.0.0", "192.0.2.1", "224.0.0.1"];
        let found = of(&addresses.map(|address| instance("db", address, 80, "passing")), "");
        assert_eq!(places(&found, "db"), ["192.0.2.1:80 true"]);
        assert_eq!(found.lines.len(), 2, "{:?}", found.lines);
        assert!(of(&[instance("db", "db.example.com", 80, "passing")], "").services["db"].slices.is_empty());
    }

    #[test]
    fn a_port_is_that_of_most_instances_unless_one_is_given() {
        let found = |ports: &[u16], more: &str| {
            let instance = |(index, port): (usize, &u16)| instance("db", &format!("192.0.2.{index}"), *port, "passing");
            of(&ports.iter().enumerate().map(instance).collect::<Vec<_>>(), more).services["db"].form.clone()
        };
        assert_eq!(found(&[2, 1, 2], ""), Form::Endpoints { port: 2 });
        assert_eq!(found(&[2, 1], ""), Form::Endpoints { port: 1 });
        assert_eq!(found(&[2, 1], r#", "port": 80"#), Form::Endpoints { port: 80 });
        let name = found(&[1], r#", "kind": "externalName", "domain": "dc2.consul""#);
        assert_eq!(name, Form::ExternalName("db.service.dc2.consul".to_owned()));
    }

    #[test]
    fn a_place_that_is_registered_twice_is_one_and_works_if_one_says_so() {
        let twice = ["critical", "passing"].map(|status| instance("db", "192.0.2.1", 80, status));
        assert_eq!(places(&of(&twice, ""), "db"), ["192.0.2.1:80 true"]);
    }

    #[test]
    fn only_what_is_selected_appears_and_nothing_when_all_is_to_go() {
        let all = ["shop-a", "shop-b", "db"].map(|name| instance(name, "192.0.2.1", 80, "passing"));
        let found = of(&all, r#", "services": ["shop-*"], "except": ["shop-b"]"#);
        assert_eq!(found.services.keys().collect::<Vec<_>>(), ["shop-a"]);
        assert_eq!(of(&all, r#", "remove": true"#), Desired::default());
    }
}
