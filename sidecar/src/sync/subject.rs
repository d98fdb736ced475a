//! One Service with its spec and annotations at hand, so that the rules below read without unwrapping.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use crate::kube::ObjectKey;

static NO_SPEC: LazyLock<ServiceSpec> = LazyLock::new(ServiceSpec::default);
static NO_ANNOTATIONS: BTreeMap<String, String> = BTreeMap::new();

/// The service being judged.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) service: &'a Service,
    pub(super) spec: &'a ServiceSpec,
    pub(super) annotations: &'a BTreeMap<String, String>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(key: &'a ObjectKey, service: &'a Service) -> Self {
        let spec = service.spec.as_ref().unwrap_or(&NO_SPEC);
        let annotations = service.metadata.annotations.as_ref().unwrap_or(&NO_ANNOTATIONS);
        Self { key, service, spec, annotations }
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&'a str> {
        self.annotations.get(key).map(String::as_str)
    }

    pub(super) fn ports(&self) -> &'a [ServicePort] {
        self.spec.ports.as_deref().unwrap_or_default()
    }
}
