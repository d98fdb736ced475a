//! What holds of every cluster, however odd: invariants of [`desired`] and [`routes`] on generated objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Value, json};

use super::{Registration, SyncOptions, desired, routes};
use crate::kube::{Cluster, Manifests, ObjectKey, Packed};

/// Small sets, so that things meet: two services in two namespaces on three nodes.
const NAMES: [&str; 2] = ["web", "db"];
const NAMESPACES: [&str; 2] = ["a", "b"];
const NODES: [&str; 4] = ["n1", "n2", "n3", ""];
const ADDRESSES: [&str; 8] =
    ["192.0.2.1", "192.0.2.2", "198.51.100.7", "2001:db8::1", "::", "0.0.0.0", "", "host.example.com"];
const PORT_NAMES: [&str; 4] = ["", "http", "8080", "un fit"];
const ANNOTATIONS: [(&str, &[&str]); 16] = [
    ("consul.hashicorp.com/service-sync", &["true", "0", "perhaps", ""]),
    ("consul.hashicorp.com/service-name", &["front", " ", "Web"]),
    ("consul.hashicorp.com/service-port", &["http", "8080", "0x50", "-1", "", "99999999999999999999"]),
    ("consul.hashicorp.com/service-tags", &["a,b", "\\,,\\", "traefik.http.routers.x.rule=Host(`x`)", "ü,\u{0}"]),
    ("consul.hashicorp.com/service-weight", &["7", "0", "x"]),
    ("consul.hashicorp.com/service-meta-external-source", &["forged"]),
    ("consul.hashicorp.com/service-meta-", &["empty key"]),
    ("portcullis.io/exposure", &["gate", "tags", "none", "?"]),
    ("tags", &["b,,a", "portcullis.enable=true"]),
    ("traefik.enable", &["true", "false", "maybe"]),
    ("traefik.http.routers.r.rule", &["Host(`r`)", "", " "]),
    ("traefik.http.routers.r.tls", &["true", "{}"]),
    ("traefik.http.routers.s.rule", &["Host(`r`)", "Host(`s`)"]),
    ("traefik.http.routers.s.entrypoints", &["web", "websecure,web"]),
    ("traefik.", &["x"]),
    ("traefik.frontend.rule", &["Host:x"]),
];

fn annotations() -> impl Strategy<Value = Value> {
    let one = select(&ANNOTATIONS[..]).prop_flat_map(|(key, values)| (Just(key), select(values)));
    vec(one, 0..5).prop_map(|pairs| pairs.into_iter().collect::<BTreeMap<_, _>>()).prop_map(|map| json!(map))
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![4 => 1..65536, 1 => any::<i32>(), 1 => Just(0)]
}

fn service() -> impl Strategy<Value = Value> {
    let port = (select(&PORT_NAMES[..]), number(), option::of(number()))
        .prop_map(|(name, port, node_port)| json!({"name": name, "port": port, "nodePort": node_port}));
    let kind = select(vec![
        json!("NodePort"),
        json!("NodePort"),
        json!("ClusterIP"),
        json!("LoadBalancer"),
        json!("Odd"),
        json!(null),
    ]);
    let families = select(vec![json!(null), json!([]), json!(["IPv6", "IPv4"]), json!(["IPv6"]), json!(["IPv5"])]);
    let addresses = || option::of(vec(select(&ADDRESSES[..]), 0..3));
    (annotations(), kind, families, option::of(vec(port, 0..4)), addresses(), addresses()).prop_map(
        |(annotations, kind, families, ports, external, ingress)| {
            let ingress: Vec<_> = ingress.iter().flatten().map(|address| json!({"ip": address})).collect();
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"annotations": annotations},
                "spec": {"type": kind, "ipFamilies": families, "ports": ports, "externalIPs": external},
                "status": {"loadBalancer": {"ingress": ingress}},
            })
        },
    )
}

fn slice() -> impl Strategy<Value = Value> {
    let flag = || option::of(any::<bool>());
    let conditions = option::of((flag(), flag(), flag()).prop_map(
        |(ready, serving, terminating)| json!({"ready": ready, "serving": serving, "terminating": terminating}),
    ));
    let endpoint = (vec(select(&ADDRESSES[..]), 0..3), option::of(select(&NODES[..])), conditions).prop_map(
        |(addresses, node, conditions)| json!({"addresses": addresses, "nodeName": node, "conditions": conditions}),
    );
    let port = (option::of(select(&PORT_NAMES[..])), option::of(number()))
        .prop_map(|(name, port)| json!({"name": name, "port": port}));
    (select(&NAMES[..]), option::of(vec(port, 0..3)), option::of(vec(endpoint, 0..6))).prop_map(
        |(service, ports, endpoints)| {
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"labels": {"kubernetes.io/service-name": service}}, "ports": ports, "endpoints": endpoints,
            })
        },
    )
}

fn node() -> impl Strategy<Value = Value> {
    let address = (select(vec!["InternalIP", "ExternalIP", "Hostname"]), select(&ADDRESSES[..]))
        .prop_map(|(kind, address)| json!({"type": kind, "address": address}));
    let ready = option::of(select(vec!["True", "False", "Unknown"]));
    (option::of(vec(address, 0..4)), ready).prop_map(|(addresses, ready)| {
        let conditions: Vec<_> = ready.iter().map(|status| json!({"type": "Ready", "status": status})).collect();
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {},
               "status": {"addresses": addresses, "conditions": conditions}})
    })
}

/// A whole cluster, in an order that must not matter.
pub(super) fn objects() -> impl Strategy<Value = Vec<Value>> {
    let services = vec(service(), NAMES.len() * NAMESPACES.len());
    let slices = vec((slice(), select(&NAMESPACES[..])), 0..6);
    (services, slices, vec(node(), 0..4)).prop_map(|(mut services, slices, mut nodes)| {
        for (index, service) in services.iter_mut().enumerate() {
            service["metadata"]["name"] = json!(NAMES[index % 2]);
            service["metadata"]["namespace"] = json!(NAMESPACES[index / 2]);
        }
        for (node, name) in nodes.iter_mut().zip(["n1", "n2", "n3", "n4"]) {
            node["metadata"]["name"] = json!(name);
        }
        let slices = slices.into_iter().enumerate().map(|(index, (mut slice, namespace))| {
            slice["metadata"]["name"] = json!(format!("slice-{index}"));
            slice["metadata"]["namespace"] = json!(namespace);
            slice
        });
        services.into_iter().chain(slices).chain(nodes).collect()
    })
}

pub(super) fn options() -> impl Strategy<Value = SyncOptions> {
    let value = (
        select(vec!["ExternalFirst", "ExternalOnly", "InternalOnly"]),
        select(vec![json!(["NodePort"]), json!(["NodePort", "ClusterIP", "LoadBalancer"])]),
        select(vec!["synthetic", "perNode"]),
        select(vec!["gate", "tags", "none"]),
        any::<bool>(),
    );
    value.prop_map(|(mode, types, nodes, exposure, flag)| {
        let value = json!({"nodePortSync": mode, "syncTypes": types, "consulNodes": nodes, "exposure": exposure,
                           "loadBalancerAsNodePort": flag, "addK8SNamespaceSuffix": flag});
        serde_json::from_value(value).unwrap()
    })
}

pub(super) fn cluster(objects: Vec<Value>) -> Cluster {
    Cluster::from_manifests([Manifests::from_values("generated", objects).unwrap()]).unwrap()
}

fn consul_takes(registration: &Registration) {
    let service = &registration.service;
    let fits = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    assert!(service.port > 0 && service.weights.passing > 0 && service.weights.warning > 0);
    assert!(!service.address.is_empty() && !registration.address.is_empty());
    assert!(!["0.0.0.0", "::"].contains(&service.address.as_str()), "{}", service.address);
    assert!((1..=255).contains(&service.service.len()));
    assert!(service.meta.len() <= 64, "{} pairs", service.meta.len());
    for (key, value) in &service.meta {
        assert!((1..=128).contains(&key.len()) && fits(key) && !key.starts_with("consul-"), "{key}");
        assert!(value.len() <= 512, "{key}");
    }
    assert_eq!(service.meta["external-source"], "kubernetes");
    assert_eq!(service.meta["external-k8s-cluster"], "kubernetes");
    assert!(service.tags.iter().all(|tag| !tag.is_empty()));
    assert_eq!(service.tags.iter().collect::<BTreeSet<_>>().len(), service.tags.len(), "{:?}", service.tags);
    assert_eq!((&registration.check.node, &registration.check.service_id), (&registration.node, &service.id));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_kept_of_objects_changes_nothing(objects in objects(), options in options()) {
        let slim = cluster(objects.clone());
        let mut whole = slim.clone();
        for object in objects {
            match object["kind"].as_str() {
                Some("Service") => {
                    let object: Service = serde_json::from_value(object).unwrap();
                    whole.services.insert(Arc::new(ObjectKey::of(&object.metadata)), Packed::whole(&object));
                }
                Some("EndpointSlice") => {
                    let object: EndpointSlice = serde_json::from_value(object).unwrap();
                    whole.slices.insert(Arc::new(ObjectKey::of(&object.metadata)), Packed::whole(&object));
                }
                _ => {
                    let object: Node = serde_json::from_value(object).unwrap();
                    whole.nodes.insert(ObjectKey::of(&object.metadata).name, object);
                }
            }
        }
        prop_assert_eq!(whole.services.len() + whole.slices.len() + whole.nodes.len(),
                        slim.services.len() + slim.slices.len() + slim.nodes.len());
        prop_assert_eq!(desired(&whole, &options), desired(&slim, &options));
    }

    #[test]
    fn any_cluster_gives_registrations_that_consul_takes_once_per_service_and_place(
        objects in objects(), options in options(),
    ) {
        let found = desired(&cluster(objects.clone()), &options);
        let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
        for registration in &found.registrations {
            consul_takes(registration);
            let service = &registration.service;
            prop_assert!(ids.insert((&registration.node, &service.id)), "ID twice: {}", service.id);
            let owner = (&service.meta["external-k8s-ns"], service.id.rsplit_once('-').unwrap().0);
            prop_assert!(places.insert((owner, registration.node.clone(), service.address.clone(),
                service.meta.get("external-k8s-node-name"))), "place twice: {service:?}");
        }
        prop_assert!(found.notes.is_sorted());
        let distinct: BTreeSet<_> = found.notes.iter().map(|note| (&note.object, &note.key)).collect();
        prop_assert_eq!(distinct.len(), found.notes.len(), "one note per bad value: {:?}", found.notes);

        let mut turned = objects;
        turned.reverse();
        prop_assert_eq!(desired(&cluster(turned), &options), found);
    }

    #[test]
    fn no_tag_for_traefik_is_left_in_gate_mode(objects in objects()) {
        let objects: Vec<_> = objects.into_iter().map(|mut object| {
            if let Some(map) = object["metadata"]["annotations"].as_object_mut() {
                map.remove("portcullis.io/exposure");
            }
            object
        }).collect();
        for registration in desired(&cluster(objects), &SyncOptions::default()).registrations {
            for tag in &registration.service.tags {
                prop_assert!(!tag.to_ascii_lowercase().starts_with("traefik."), "{tag}");
            }
        }
    }

    #[test]
    fn every_route_has_rules_and_a_router_of_its_own(objects in objects(), options in options()) {
        let found = desired(&cluster(objects), &options);
        let (routes, _) = routes(&found.registrations);
        let mut names = BTreeSet::new();
        for route in &routes {
            prop_assert!(!route.routers.is_empty());
            for router in &route.routers {
                prop_assert!(!router.rule.trim().is_empty());
                prop_assert!(names.insert(router.name.clone()), "{} twice", router.name);
            }
            let of = |registration: &&Registration| registration.service.service == route.destination;
            for registration in found.registrations.iter().filter(of) {
                let tags = &registration.service.tags;
                prop_assert!(!tags.iter().any(|tag| tag == "portcullis.enable=false"), "{tags:?}");
                prop_assert!(tags.iter().any(|tag| tag.starts_with("portcullis.http.routers.")), "{tags:?}");
            }
            let places: BTreeSet<_> = route.servers.iter().map(|server| (&server.address, server.port)).collect();
            prop_assert_eq!(places.len(), route.servers.len());
        }
    }
}
