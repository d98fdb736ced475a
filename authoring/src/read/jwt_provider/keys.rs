//! `JSONWebKeySet`: where a provider's keys come from.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{
    super::node::{Node, Object},
    Reader,
};
use portcullis_policy::jwt::{JwksCluster, KeySource, RemoteKeys, RetryPolicy, TrustedCa};

/// What the proxies of Consul know as ways to find a cluster's addresses.
const DISCOVERY_TYPES: [&str; 5] = ["STRICT_DNS", "STATIC", "LOGICAL_DNS", "EDS", "ORIGINAL_DST"];
/// How `BaseInterval` defaults, in nanoseconds.
const BASE_INTERVAL: u64 = 1_000_000_000;

pub(super) fn read(reader: &mut Reader<'_>, fields: &Object<'_>, entry: &Node<'_>) -> KeySource {
    source(reader, fields, entry).unwrap_or_else(|| KeySource::Inline(Vec::new()))
}

/// `None` when there is a fault; the provider is broken then, and its source does not matter.
fn source(reader: &mut Reader<'_>, fields: &Object<'_>, entry: &Node<'_>) -> Option<KeySource> {
    let Some(node) = fields.filled("jsonwebkeyset") else {
        reader.fault(entry, "the provider has no JSONWebKeySet", "give Local or Remote");
        return None;
    };
    let set = reader.object(&node)?;
    reader.only(&set, &["local", "remote"]);
    match (set.filled("local"), set.filled("remote")) {
        (Some(local), None) => read_local(reader, &local),
        (None, Some(remote)) => read_remote(reader, &remote).map(|remote| KeySource::Remote(Box::new(remote))),
        _ => {
            reader.fault(&node, "JSONWebKeySet is exactly one of Local and Remote", "");
            None
        }
    }
}

fn read_local(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<KeySource> {
    let local = reader.object(node)?;
    reader.only(&local, &["jwks", "filename"]);
    match (local.filled("jwks"), local.filled("filename")) {
        (Some(jwks), None) => {
            let set = jwks.text().and_then(|text| BASE64_STANDARD.decode(text).ok());
            if set.is_none() {
                reader.fault(&jwks, "JWKS must be standard base64 of the set", "with padding; `base64 -w0 jwks.json`");
            }
            set.map(KeySource::Inline)
        }
        (None, Some(_)) => reader.text(&local, "filename").map(KeySource::File),
        _ => {
            reader.fault(node, "Local is exactly one of JWKS and Filename", "");
            None
        }
    }
}

fn read_remote(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<RemoteKeys> {
    let remote = reader.object(node)?;
    reader.only(
        &remote,
        &["uri", "requesttimeoutms", "cacheduration", "fetchasynchronously", "usesni", "retrypolicy", "jwkscluster"],
    );
    let uri = reader.text(&remote, "uri").filter(|uri| is_absolute(uri));
    if uri.is_none() {
        reader.fault(node, "URI must be an absolute http or https URI", "like https://issuer.example/jwks.json");
    }
    Some(RemoteKeys {
        request_timeout_ms: reader.number(&remote, "requesttimeoutms"),
        cache_duration: reader.duration(&remote, "cacheduration"),
        fetch_asynchronously: reader.truth(&remote, "fetchasynchronously"),
        use_sni: reader.truth(&remote, "usesni"),
        retry: reader.inner(&remote, "retrypolicy").map(|retry| read_retry(reader, &retry, node)),
        cluster: reader.inner(&remote, "jwkscluster").map(|cluster| read_cluster(reader, &cluster)),
        uri: uri?,
    })
}

fn is_absolute(uri: &str) -> bool {
    let rest = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) && uri.bytes().all(|it| it.is_ascii_graphic())
}

fn read_retry(reader: &mut Reader<'_>, retry: &Object<'_>, node: &Node<'_>) -> RetryPolicy {
    reader.only(retry, &["numretries", "retrypolicybackoff"]);
    let mut policy = RetryPolicy { retries: reader.number(retry, "numretries"), ..RetryPolicy::default() };
    if let Some(intervals) = reader.inner(retry, "retrypolicybackoff") {
        reader.only(&intervals, &["baseinterval", "maxinterval"]);
        policy.base_interval = reader.duration(&intervals, "baseinterval");
        policy.max_interval = reader.duration(&intervals, "maxinterval");
        let base = if policy.base_interval == 0 { BASE_INTERVAL } else { policy.base_interval };
        if policy.max_interval != 0 && policy.max_interval < base {
            reader.fault(node, "the retry policy's MaxInterval is below its BaseInterval", "");
        }
    }
    policy
}

fn read_cluster(reader: &mut Reader<'_>, cluster: &Object<'_>) -> JwksCluster {
    reader.only(cluster, &["discoverytype", "tlscertificates", "connecttimeout"]);
    let discovery_type = reader.text(cluster, "discoverytype").unwrap_or_default();
    if !discovery_type.is_empty()
        && !DISCOVERY_TYPES.contains(&discovery_type.as_str())
        && let Some(node) = cluster.get("discoverytype")
    {
        reader.fault(&node, "this DiscoveryType is not known", "STRICT_DNS, STATIC, LOGICAL_DNS, EDS, ORIGINAL_DST");
    }
    JwksCluster {
        discovery_type,
        connect_timeout: reader.duration(cluster, "connecttimeout"),
        trusted: cluster.filled("tlscertificates").and_then(|node| read_trusted(reader, &node)),
    }
}

fn read_trusted(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<TrustedCa> {
    let certificates = reader.object(node)?;
    reader.only(&certificates, &["cacertificateproviderinstance", "trustedca"]);
    match (certificates.filled("cacertificateproviderinstance"), certificates.filled("trustedca")) {
        (Some(instance), None) => {
            let instance = reader.object(&instance)?;
            reader.only(&instance, &["instancename", "certificatename"]);
            Some(TrustedCa::Instance {
                instance: reader.text(&instance, "instancename").unwrap_or_default(),
                certificate: reader.text(&instance, "certificatename").unwrap_or_default(),
            })
        }
        (None, Some(authority)) => read_authority(reader, &authority),
        _ => {
            let what = "TLSCertificates is exactly one of CaCertificateProviderInstance and TrustedCA";
            reader.fault(node, what, "");
            None
        }
    }
}

fn read_authority(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<TrustedCa> {
    let authority = reader.object(node)?;
    let ways = ["filename", "environmentvariable", "inlinestring", "inlinebytes"];
    reader.only(&authority, &ways);
    let mut found = ways.into_iter().filter(|way| authority.filled(way).is_some());
    let (Some(way), None) = (found.next(), found.next()) else {
        let what = "TrustedCA is exactly one of Filename, EnvironmentVariable, InlineString and InlineBytes";
        reader.fault(node, what, "");
        return None;
    };
    // Certificates are longer than other texts.
    let text = authority.filled(way).and_then(|node| node.text());
    let trusted = match way {
        "filename" => text.map(|text| TrustedCa::File(text.to_owned())),
        "environmentvariable" => text.map(|text| TrustedCa::Environment(text.to_owned())),
        "inlinestring" => text.map(|text| TrustedCa::Inline(text.as_bytes().to_vec())),
        _ => text.and_then(|text| BASE64_STANDARD.decode(text).ok()).map(TrustedCa::Inline),
    };
    if trusted.is_none() {
        reader.fault(node, "the trusted CA must be a text, InlineBytes base64", "");
    }
    trusted
}
