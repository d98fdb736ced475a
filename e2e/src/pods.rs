//! Manifests of a cluster whose pods the test places: nodes with addresses, NodePort services, and where their pods run.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::sidecar::Layout;

/// A cluster.
#[derive(Debug, Clone, Default)]
pub struct Pods {
    /// Addresses by node.
    pub nodes: BTreeMap<String, String>,
    /// By name, in the namespace `shop`.
    pub services: BTreeMap<String, Service>,
    /// Grows with each [`Pods::restart`]: the last part of the pods' own addresses.
    generation: u8,
}

/// A NodePort service with its pods.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Its node port, of the port `http`.
    pub node_port: u16,
    /// Further ports: name, port, node port.
    pub more_ports: Vec<(String, u16, u16)>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The node of each pod, and whether the pod is ready.
    pub pods: Vec<(String, bool)>,
}

impl Service {
    /// Ready pods on these nodes.
    pub fn on<const N: usize>(node_port: u16, nodes: [&str; N]) -> Service {
        let pods = nodes.map(|node| (node.to_owned(), true)).to_vec();
        Service { node_port, pods, ..Service::default() }
    }

    /// With another annotation.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: &str) -> Service {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }
}

impl Pods {
    /// A cluster of these nodes, without services.
    pub fn new<const N: usize>(nodes: [(&str, &str); N]) -> Pods {
        let nodes = nodes.map(|(name, address)| (name.to_owned(), address.to_owned())).into();
        Pods { nodes, ..Pods::default() }
    }

    /// A service comes, or takes the place of the one that has its name.
    pub fn set(&mut self, name: &str, service: Service) {
        self.services.insert(name.to_owned(), service);
    }

    /// Every pod is another one with another address, where it was.
    pub fn restart(&mut self) {
        self.generation += 1;
    }

    /// The manifests as one list.
    pub fn list(&self) -> Value {
        let node = |(name, address): (&String, &String)| {
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
        };
        let mut items: Vec<Value> = self.nodes.iter().map(node).collect();
        for (name, service) in &self.services {
            let more = service
                .more_ports
                .iter()
                .map(|(name, port, node)| json!({"name": name, "port": port, "nodePort": node}));
            let first = json!({"name": "http", "port": 80, "nodePort": service.node_port});
            let ports: Vec<Value> = std::iter::once(first).chain(more).collect();
            items.push(json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": "shop", "annotations": service.annotations},
                "spec": {"type": "NodePort", "ports": ports}}));
            let endpoint = |(number, (node, ready)): (usize, &(String, bool))| {
                let address = format!("10.1.{}.{}", self.generation, number + 1);
                json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready},
                    "targetRef": {"kind": "Pod", "name": format!("{name}-{}-{number}", self.generation)}})
            };
            let endpoints: Vec<Value> = service.pods.iter().enumerate().map(endpoint).collect();
            items.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": null,
                "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
                "endpoints": endpoints}));
        }
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    }

    /// Written as an editor does: beside, then renamed.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let file = layout.manifests().join("all.json");
        let beside = file.with_extension("new");
        fs::write(&beside, self.list().to_string()).context("writing the manifests")?;
        fs::rename(beside, file).context("renaming the manifests")
    }
}
