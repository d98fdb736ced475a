//! Annotation keys the sync reads on a Service, and the grammar of their numbers.

/// Whether the service is synced; a Go boolean (F3).
pub(super) const SYNC: &str = "consul.hashicorp.com/service-sync";
/// Replaces the whole Consul name (D3).
pub(super) const NAME: &str = "consul.hashicorp.com/service-name";
/// Port name or number (B2, B3).
pub(super) const PORT: &str = "consul.hashicorp.com/service-port";
/// Prefix of one meta pair each (E4).
pub(super) const META_PREFIX: &str = "consul.hashicorp.com/service-meta-";
/// Weight of the instances (E5).
pub(super) const WEIGHT: &str = "consul.hashicorp.com/service-weight";
/// `gate`, `tags` or `none`: overrides the option `exposure` for one service.
pub(super) const EXPOSURE: &str = "portcullis.io/exposure";
/// Whole tags, one a line: the keys of v3 that do not fit into an annotation's name.
pub(super) const TAGS: &str = "portcullis.io/tags";
/// `first` or `last`: where the gate decides among the service's middlewares.
pub(super) const PLACE: &str = "portcullis.io/place";
/// Requests of one address: `100/1s`, `20/1m burst 40`.
pub(super) const RATE_LIMIT: &str = "portcullis.io/rate-limit";
/// What begins so is ours; a key that nobody reads was meant to do something.
pub(super) const OWN_PREFIX: &str = "portcullis.io/";
/// All of ours on a Service.
pub(super) const OWN: [&str; 4] = [EXPOSURE, TAGS, PLACE, RATE_LIMIT];

/// 1-65535 written in plain decimal. Nothing else: consul-k8s also takes `010` for 8 and `0x50` for 80 (B3).
pub(super) fn decimal(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimals_in_range_are_numbers() {
        assert_eq!(decimal("1"), Some(1));
        assert_eq!(decimal("65535"), Some(65535));
        for text in ["", "0", "010", "0x50", "0b11", "1_000", "-5", "+80", "65536", "80 ", "８０", "99999999999"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }
}
