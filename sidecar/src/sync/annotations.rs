//! Annotation keys the sync reads on a Service, and the two small grammars of their values.

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

/// Go's `strconv.ParseBool`, which consul-k8s and Traefik use.
pub(crate) fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

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
