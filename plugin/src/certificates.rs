//! Certificates already parsed, by the whole text of the header that carried them.
//!
//! Parsing DER for each request would cost more than the decision. A connection repeats its certificate word for word, so
//! a few remembered headers answer most requests. What is remembered is only how a text reads, good or bad: whether the
//! certificate is in force and its trust domain known is judged at each decision.

use portcullis_policy::{Certificate, InvalidCertificate, bytes::same_bytes};

/// Entries kept by one instance: an instance serves few connections between two collections of the pool.
const ENTRIES: usize = 8;
/// Longest header that is looked at, in bytes: a chain of several certificates is below half of this.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The remembered headers of one instance.
#[derive(Default)]
pub struct Certificates {
    entries: Vec<(Vec<u8>, Result<Certificate, InvalidCertificate>)>,
    oldest: usize,
}

impl Certificates {
    /// How a header reads.
    pub fn get(&mut self, header: &[u8]) -> Result<&Certificate, &'static str> {
        if header.len() > MAX_HEADER_BYTES {
            return Err("the certificate header is too long");
        }
        let at = match self.entries.iter().position(|(known, _)| same_bytes(known, header)) {
            Some(at) => at,
            None => self.remember(header),
        };
        match self.entries.get(at) {
            Some((_, Ok(certificate))) => Ok(certificate),
            Some((_, Err(invalid))) => Err(invalid.label()),
            None => Err("the certificate could not be kept"),
        }
    }

    fn remember(&mut self, header: &[u8]) -> usize {
        let parsed = Certificate::from_header(header);
        let at = self.oldest;
        match self.entries.get_mut(at) {
            Some(entry) => *entry = (header.to_vec(), parsed),
            None => self.entries.push((header.to_vec(), parsed)),
        }
        self.oldest = (at + 1) % ENTRIES;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn header(service: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://td.consul/ns/default/dc/dc1/svc/{service}");
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        BASE64_STANDARD.encode(certificate.der()).into_bytes()
    }

    #[test]
    fn each_header_reads_as_itself_however_many_there_are() {
        let headers: Vec<_> = (0..=ENTRIES * 2).map(|n| (n, header(&format!("s{n}")))).collect();
        let mut certificates = Certificates::default();
        for (n, header) in headers.iter().chain(&headers).chain(headers.iter().rev()) {
            let certificate = certificates.get(header).unwrap();
            assert_eq!(certificate.workload.as_ref().unwrap().service.name, format!("s{n}"));
            assert!(certificates.entries.len() <= ENTRIES);
        }
    }

    #[test]
    fn a_header_that_differs_in_one_byte_is_another_header() {
        let good = header("web");
        let mut bad = good.clone();
        bad[10] ^= 1;
        let mut certificates = Certificates::default();
        assert!(certificates.get(&good).is_ok());
        assert!(certificates.get(&bad).is_err());
        assert!(certificates.get(&bad).is_err(), "a bad one is remembered as bad");
        assert!(certificates.get(&good).is_ok());
        assert!(certificates.get(&vec![b'A'; MAX_HEADER_BYTES + 1]).is_err());
        assert_eq!(certificates.entries.len(), 2, "what is too long is not kept");
    }
}
