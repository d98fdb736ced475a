//! SPIFFE IDs. What is read as a service's ID is written back as it was, byte for byte, so that no two texts are one ID.

use portcullis_policy::spiffe::SpiffeId;

/// The target's body.
pub fn run(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Ok(id) = SpiffeId::parse(text) else { return };
    assert_eq!(id.to_string(), text);
    let workload = id.workload();
    let service = &workload.service;
    for part in [&workload.trust_domain, &service.partition, &service.namespace, &service.name] {
        assert!(!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#".contains(&byte)));
    }
}
