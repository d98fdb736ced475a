//! Client certificates: a header's text, or (the first byte odd) the DER in it. Only the first certificate of a header
//! counts, a header reads the same every time, and nothing that is read is longer than what was given.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use portcullis_policy::{Certificate, InvalidCertificate};

/// The target's body.
pub fn run(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    if mode % 2 == 0 {
        let read = Certificate::from_header(data);
        check(&read, data.len());
        assert_eq!(Certificate::from_header(data), read);
        if read.is_ok() {
            assert_eq!(Certificate::from_header(&[data, b",AAAA"].concat()), read, "only the first one counts");
        }
    } else {
        let read = Certificate::from_der(data);
        check(&read, data.len());
        let header = BASE64_STANDARD.encode(data);
        assert_eq!(Certificate::from_header(header.as_bytes()), read, "the header holds the same certificate");
    }
}

fn check(read: &Result<Certificate, InvalidCertificate>, len: usize) {
    let Ok(Certificate { workload: Ok(workload), .. }) = read else { return };
    let service = &workload.service;
    for part in [&workload.trust_domain, &service.partition, &service.namespace, &service.name] {
        assert!(!part.is_empty() && part.len() <= len.max("default".len()), "{part:?}");
        assert!(part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'), "{part:?}");
    }
}
