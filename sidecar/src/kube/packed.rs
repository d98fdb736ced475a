//! An object as it is kept: what the sync reads of it, as text. As a structure a Service takes some thousand bytes, most of
//! them for fields that it does not have, and there are ten thousand of them; as text a few hundred, and whoever judges one
//! reads it again in microseconds.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use super::kinds::Kind;

/// What is left of an object of this kind. Equal if nothing that the sync reads differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed<K> {
    json: Box<[u8]>,
    kind: PhantomData<fn() -> K>,
}

// === impl Packed ===

impl<K: Kind> Packed<K> {
    /// Keeps what the sync reads.
    pub fn of(mut object: K) -> Self {
        object.slim();
        Self::whole(&object)
    }
}

impl<K> Packed<K> {
    /// The same for equal objects only.
    pub(super) fn text(&self) -> &[u8] {
        &self.json
    }
}

impl<K: Serialize + DeserializeOwned + Default> Packed<K> {
    /// Keeps all of it.
    pub(crate) fn whole(object: &K) -> Self {
        // It was read from JSON, or has only what JSON has.
        Self { json: serde_json::to_vec(object).unwrap_or_default().into(), kind: PhantomData }
    }

    /// The object.
    pub fn get(&self) -> K {
        // It was made by `whole`.
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "s", "namespace": "shop", "uid": "u", "annotations": {"tags": "a\n\u{1f41f}\"", "empty": ""}},
            "spec": {"type": "NodePort", "externalIPs": [], "ports": [{"port": 80, "nodePort": 30080, "targetPort": "http"}]}});
        let packed = Packed::of(serde_json::from_value::<Service>(service.clone()).unwrap());
        assert_eq!(serde_json::to_value(packed.get()).unwrap(), service);
        assert_eq!(Packed::of(packed.get()), packed);
        assert!(packed.json.len() < 300);
    }
}
