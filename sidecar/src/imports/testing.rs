//! What tests begin with.

use super::config::ToKubernetes;
use crate::sync::{Check, RegisteredService, Registration, Weights};

/// A configuration with more keys, as in `, "kind": "externalName"`.
pub(super) fn config(more: &str) -> ToKubernetes {
    let config: ToKubernetes = serde_json::from_str(&format!(r#"{{"namespace": "consul"{more}}}"#)).unwrap();
    config.validate("east").unwrap();
    config
}

/// An instance of a service in Consul.
pub(super) fn instance(service: &str, address: &str, port: u16, status: &str) -> Registration {
    Registration {
        id: String::new(),
        node: format!("vm-{address}"),
        address: "192.0.2.250".to_owned(),
        node_meta: [].into(),
        skip_node_update: true,
        service: RegisteredService {
            id: format!("{service}-{port}"),
            service: service.to_owned(),
            tags: Vec::new(),
            address: address.to_owned(),
            meta: [].into(),
            port,
            weights: Weights::default(),
        },
        check: Check {
            check_id: String::new(),
            name: String::new(),
            kind: String::new(),
            status: status.to_owned(),
            output: String::new(),
            service_id: String::new(),
            node: String::new(),
            definition: None,
        },
    }
}
