//! Entries as Consul's API returns them, HCL-shaped and as resources, and every fault.

use serde_json::{Value, json};

use super::*;
use portcullis_policy::jwt::{JwksCluster, RemoteKeys, RetryPolicy, TrustedCa, compile};

fn read_value(entry: &Value) -> (Option<JwtProvider>, Vec<Problem>) {
    let node = Node::new(entry, "okta.yaml: ".to_owned());
    let mut problems = Vec::new();
    let provider = read(&node.try_object().unwrap(), &node, &mut problems);
    (provider, problems)
}

fn whole(entry: &Value) -> JwtProvider {
    let (provider, problems) = read_value(entry);
    assert_eq!(problems, []);
    provider.filter(|provider| !provider.broken).unwrap()
}

/// An entry that has only what it needs, with more fields or others.
fn entry(more: &Value) -> Value {
    let mut entry = json!({
        "Kind": "jwt-provider", "Name": "okta", "Issuer": "https://issuer.example",
        "JSONWebKeySet": {"Local": {"JWKS": "e30="}},
    });
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry
}

fn remote(more: &Value) -> Value {
    let mut remote = json!({"URI": "https://issuer.example/jwks"});
    remote.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    entry(&json!({"JSONWebKeySet": {"Remote": remote}}))
}

fn full() -> JwtProvider {
    JwtProvider {
        name: "okta".to_owned(),
        issuer: "https://issuer.example".to_owned(),
        audiences: vec!["api".to_owned(), "web".to_owned()],
        keys: KeySource::Remote(Box::new(RemoteKeys {
            uri: "https://issuer.example/jwks".to_owned(),
            request_timeout_ms: 1500,
            cache_duration: 1_800_000_000_000,
            fetch_asynchronously: true,
            use_sni: true,
            retry: Some(RetryPolicy { retries: 3, base_interval: 500_000_000, max_interval: 10_000_000_000 }),
            cluster: Some(JwksCluster {
                discovery_type: "LOGICAL_DNS".to_owned(),
                connect_timeout: 2_000_000_000,
                trusted: Some(TrustedCa::Inline(b"PEM".to_vec())),
            }),
        })),
        locations: vec![
            Location::Header { name: "x-token".to_owned(), prefix: "Bearer ".to_owned(), forward: true },
            Location::Query("jwt".to_owned()),
            Location::Cookie("session".to_owned()),
        ],
        forwarding: Some(Forwarding { header: "x-claims".to_owned(), padded: true }),
        clock_skew: 10,
        cache_size: 500,
        broken: false,
    }
}

#[test]
fn an_entry_as_the_api_returns_it_is_read_with_every_field() {
    let entry = json!({
        "Kind": "jwt-provider", "Name": "okta", "Namespace": "default", "Partition": "default", "Meta": null,
        "CreateIndex": 12, "ModifyIndex": 13, "Hash": 17_179_869_184_000_000_001_u64,
        "Issuer": "https://issuer.example", "Audiences": ["api", "web"],
        "JSONWebKeySet": {"Local": null, "Remote": {
            "URI": "https://issuer.example/jwks", "RequestTimeoutMs": 1500, "CacheDuration": 1_800_000_000_000_u64,
            "FetchAsynchronously": true, "UseSNI": true,
            "RetryPolicy": {"NumRetries": 3, "RetryPolicyBackOff": {
                "BaseInterval": 500_000_000, "MaxInterval": 10_000_000_000_u64,
            }},
            "JWKSCluster": {"DiscoveryType": "LOGICAL_DNS", "ConnectTimeout": 2_000_000_000, "TLSCertificates": {
                "CaCertificateProviderInstance": null,
                "TrustedCA": {"Filename": "", "EnvironmentVariable": "", "InlineString": "PEM", "InlineBytes": null},
            }},
        }},
        "Locations": [
            {"Header": {"Name": "X-Token", "ValuePrefix": "Bearer ", "Forward": true}, "QueryParam": null, "Cookie": null},
            {"Header": null, "QueryParam": {"Name": "jwt"}, "Cookie": null},
            {"Header": null, "QueryParam": null, "Cookie": {"Name": "session"}},
        ],
        "Forwarding": {"HeaderName": "X-Claims", "PadForwardPayloadHeader": true},
        "ClockSkewSeconds": 10, "CacheConfig": {"Size": 500},
    });
    assert_eq!(whole(&entry), full());
}

#[test]
fn a_resource_is_read_like_the_entry() {
    let resource = json!({
        "apiVersion": "consul.hashicorp.com/v1alpha1", "kind": "JWTProvider",
        "metadata": {"name": "okta", "namespace": "team", "annotations": {"a": "b"}},
        "spec": {
            "issuer": "https://issuer.example", "audiences": ["api", "web"],
            "jsonWebKeySet": {"remote": {
                "uri": "https://issuer.example/jwks", "requestTimeoutMs": 1500, "cacheDuration": "30m",
                "fetchAsynchronously": true, "UseSNI": true,
                "retryPolicy": {"numRetries": 3, "retryPolicyBackOff": {"baseInterval": "500ms", "maxInterval": "10s"}},
                "jwksCluster": {"discoveryType": "LOGICAL_DNS", "connectTimeout": "2s", "tlsCertificates": {
                    "trustedCA": {"inlineBytes": "UEVN"},
                }},
            }},
            "locations": [
                {"header": {"name": "x-token", "valuePrefix": "Bearer ", "forward": true}},
                {"queryParam": {"name": "jwt"}},
                {"cookie": {"name": "session"}},
            ],
            "forwarding": {"headerName": "x-claims", "padForwardPayloadHeader": true},
            "clockSkewSeconds": 10, "cacheConfig": {"size": 500},
        },
        "status": {"conditions": []},
    });
    assert_eq!(whole(&resource), full());
}

#[test]
fn hcl_shaped_keys_and_what_is_left_out() {
    let provider = whole(&json!({
        "kind": "jwt-provider", "name": "okta", "issuer": "i",
        "json_web_key_set": {"local": {"filename": "/etc/jwks.json"}},
    }));
    assert_eq!(provider.keys, KeySource::File("/etc/jwks.json".to_owned()));
    assert_eq!((provider.clock_skew, provider.cache_size), (30, 0));
    assert_eq!((provider.audiences.len(), provider.locations.len(), provider.forwarding), (0, 0, None));
    assert_eq!(whole(&entry(&json!({}))).keys, KeySource::Inline(b"{}".to_vec()));
    assert_eq!(whole(&entry(&json!({"ClockSkewSeconds": 0}))).clock_skew, 30);
}

#[test]
fn each_way_to_trust_the_server_is_read() {
    let trusted = |certificates: Value| {
        let provider = whole(&remote(&json!({"JWKSCluster": {"TLSCertificates": certificates}})));
        let KeySource::Remote(remote) = provider.keys else { panic!("remote") };
        remote.cluster.unwrap().trusted.unwrap()
    };
    let by = |key: &str, value: &str| trusted(json!({"TrustedCA": {key: value}}));
    assert_eq!(by("Filename", "ca.pem"), TrustedCa::File("ca.pem".to_owned()));
    assert_eq!(by("EnvironmentVariable", "CA"), TrustedCa::Environment("CA".to_owned()));
    assert_eq!(by("InlineString", "PEM"), TrustedCa::Inline(b"PEM".to_vec()));
    assert_eq!(by("InlineBytes", "UEVN"), TrustedCa::Inline(b"PEM".to_vec()));
    let instance = json!({"CaCertificateProviderInstance": {"InstanceName": "default", "CertificateName": "ROOTCA"}});
    let (name, certificate) = ("default".to_owned(), "ROOTCA".to_owned());
    assert_eq!(trusted(instance), TrustedCa::Instance { instance: name, certificate });
}

#[test]
fn every_fault_breaks_the_provider_and_says_where() {
    let set = |set: Value| entry(&json!({"JSONWebKeySet": set}));
    let location = |location: Value| entry(&json!({"Locations": [location]}));
    let cluster = |cluster: Value| remote(&json!({"JWKSCluster": cluster}));
    let ca = |ca: Value| cluster(json!({"TLSCertificates": {"TrustedCA": ca}}));
    for (entry, at) in [
        (entry(&json!({"Issuer": ""})), "okta.yaml"),
        (entry(&json!({"Issuer": 1})), "okta.yaml: Issuer"),
        (entry(&json!({"Issuer": "a", "issuer": "b"})), "okta.yaml: Issuer"),
        (entry(&json!({"Namespace": "team"})), "okta.yaml: Namespace"),
        (entry(&json!({"Partition": "x"})), "okta.yaml: Partition"),
        (entry(&json!({"Novelty": 1})), "okta.yaml: Novelty"),
        (entry(&json!({"Audiences": "api"})), "okta.yaml: Audiences"),
        (entry(&json!({"Audiences": ["api", 1]})), "okta.yaml: Audiences"),
        (entry(&json!({"Audiences": vec!["a"; 33]})), "okta.yaml: Audiences"),
        (entry(&json!({"ClockSkewSeconds": -1})), "okta.yaml: ClockSkewSeconds"),
        (entry(&json!({"ClockSkewSeconds": 1.5})), "okta.yaml: ClockSkewSeconds"),
        (entry(&json!({"ClockSkewSeconds": 86401})), "okta.yaml: ClockSkewSeconds"),
        (entry(&json!({"CacheConfig": {"Size": "1"}})), "okta.yaml: CacheConfig.Size"),
        (entry(&json!({"CacheConfig": [1]})), "okta.yaml: CacheConfig"),
        (entry(&json!({"CacheConfig": {"Sizes": 1}})), "okta.yaml: CacheConfig.Sizes"),
        (set(Value::Null), "okta.yaml"),
        (set(json!("x")), "okta.yaml: JSONWebKeySet"),
        (set(json!({"Local": {"JWKS": "e30="}, "Remote": {"URI": "https://a"}})), "okta.yaml: JSONWebKeySet"),
        (set(json!({"Local": {"JWKS": "e30=", "Filename": "a"}})), "okta.yaml: JSONWebKeySet.Local"),
        (set(json!({"Local": {"JWKS": "{}"}})), "okta.yaml: JSONWebKeySet.Local.JWKS"),
        (set(json!({"Local": {"JWKS": "e30"}})), "okta.yaml: JSONWebKeySet.Local.JWKS"),
        (set(json!({"Local": {"Url": "e30"}})), "okta.yaml: JSONWebKeySet.Local.Url"),
        (remote(&json!({"URI": ""})), "okta.yaml: JSONWebKeySet.Remote"),
        (remote(&json!({"URI": "/jwks"})), "okta.yaml: JSONWebKeySet.Remote"),
        (remote(&json!({"URI": "ftp://a/jwks"})), "okta.yaml: JSONWebKeySet.Remote"),
        (remote(&json!({"URI": "https:///jwks"})), "okta.yaml: JSONWebKeySet.Remote"),
        (remote(&json!({"URI": "https://a/b c"})), "okta.yaml: JSONWebKeySet.Remote"),
        (remote(&json!({"CacheDuration": "soon"})), "okta.yaml: JSONWebKeySet.Remote.CacheDuration"),
        (remote(&json!({"CacheDuration": -1})), "okta.yaml: JSONWebKeySet.Remote.CacheDuration"),
        (remote(&json!({"UseSNI": "yes"})), "okta.yaml: JSONWebKeySet.Remote.UseSNI"),
        (
            remote(&json!({"RetryPolicy": {"RetryPolicyBackOff": {"BaseInterval": "10s", "MaxInterval": "5s"}}})),
            "okta.yaml: JSONWebKeySet.Remote",
        ),
        (
            remote(&json!({"RetryPolicy": {"RetryPolicyBackOff": {"MaxInterval": "5ms"}}})),
            "okta.yaml: JSONWebKeySet.Remote",
        ),
        (cluster(json!({"DiscoveryType": "DNS"})), "okta.yaml: JSONWebKeySet.Remote.JWKSCluster.DiscoveryType"),
        (
            cluster(json!({"TLSCertificates": {"x": 1}})),
            "okta.yaml: JSONWebKeySet.Remote.JWKSCluster.TLSCertificates.x",
        ),
        (
            ca(json!({"Filename": "a", "InlineString": "b"})),
            "okta.yaml: JSONWebKeySet.Remote.JWKSCluster.TLSCertificates.TrustedCA",
        ),
        (ca(json!({"InlineBytes": "?"})), "okta.yaml: JSONWebKeySet.Remote.JWKSCluster.TLSCertificates.TrustedCA"),
        (entry(&json!({"Locations": {"a": 1}})), "okta.yaml: Locations"),
        (location(json!(1)), "okta.yaml: Locations[0]"),
        (location(json!({})), "okta.yaml: Locations[0]"),
        (location(json!({"Header": {"Name": "a"}, "Cookie": {"Name": "b"}})), "okta.yaml: Locations[0]"),
        (location(json!({"Header": {"ValuePrefix": "a"}})), "okta.yaml: Locations[0].Header"),
        (location(json!({"Header": {"Name": "a b"}})), "okta.yaml: Locations[0].Header"),
        (location(json!({"Cookie": {"Name": "a;b"}})), "okta.yaml: Locations[0].Cookie"),
        (location(json!({"QueryParam": {"Name": "a", "Forward": true}})), "okta.yaml: Locations[0].QueryParam.Forward"),
        (location(json!({"Header": {"Name": "a", "Forward": "no"}})), "okta.yaml: Locations[0].Header.Forward"),
        (entry(&json!({"Forwarding": {"PadForwardPayloadHeader": true}})), "okta.yaml: Forwarding"),
        (entry(&json!({"Forwarding": {"HeaderName": "a b"}})), "okta.yaml: Forwarding"),
    ] {
        let (provider, problems) = read_value(&entry);
        let provider = provider.unwrap();
        assert!(provider.broken, "{entry}");
        assert_eq!(problems.first().map(|problem| problem.at.as_str()), Some(at), "{entry} {problems:?}");
        assert!(problems.iter().all(|problem| problem.severity == Severity::Error), "{problems:?}");
        assert_eq!(provider.name, "okta");
    }
}

#[test]
fn a_broken_provider_still_keeps_its_forwarding_header_from_clients() {
    let (provider, _) = read_value(&entry(&json!({"Forwarding": {"HeaderName": "X-Claims"}, "Novelty": 1})));
    let record = compile(&provider.unwrap(), None, &mut Vec::new());
    assert_eq!(record.stripped_header(), Some("x-claims"));
}

#[test]
fn without_a_name_there_is_no_provider() {
    for name in [json!(null), json!(""), json!(1), json!("*"), json!("a".repeat(5000))] {
        let (provider, problems) = read_value(&entry(&json!({"Name": name})));
        assert_eq!((provider, problems.len()), (None, 1), "{name}");
    }
}
