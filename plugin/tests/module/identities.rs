//! Identities beside certificate and key: the network of the connection, and the order of an entry point.

use crate::{
    host::{Guest, Request},
    support::{FILE, call, gate, policy, snapshot, to_db, warm_guest},
};
use serde_json::{Value, json};

/// `lan` may call `db`, and is known by its network; on the entry point `partners` that goes before the certificate.
fn entries() -> Vec<Value> {
    vec![
        json!({"Kind": "network", "Name": "lan", "CIDRs": ["10.0.0.0/8", "2001:db8::/32"], "Source": {"Name": "lan"}}),
        json!({"Kind": "identity", "Order": ["certificate", "network"]}),
        json!({"Kind": "identity", "EntryPoint": "partners", "Order": ["network", "certificate"]}),
        json!({"Kind": "service-intentions", "Name": "db", "Sources": [
            {"Name": "lan", "Action": "allow"}, {"Name": "web", "Action": "allow"}]}),
    ]
}

fn guest(entry_point: &str) -> Guest {
    let mut config = gate();
    config["entryPoint"] = entry_point.into();
    let mut guest = Guest::start(&config);
    guest.publish(FILE, snapshot(&entries(), 1));
    guest
}

fn from(address: &str, request: Request) -> Request {
    Request { source_address: Some(address.to_owned()), ..request }
}

fn source_of(guest: &mut Guest, address: &str) -> Option<String> {
    guest.request(from(address, to_db())).request.header("x-portcullis-source")
}

#[test]
fn the_address_is_asked_for_only_when_the_policy_knows_networks() {
    const CALL: &str = "get_source_addr";
    let calls = |answer: crate::host::Answer| answer.calls.iter().filter(|call| *call == CALL).count();
    assert_eq!(calls(warm_guest().request(call("web"))), 0);
    let mut guest = guest("");
    assert_eq!(calls(guest.request(call("web"))), 1);
    guest.publish(FILE, snapshot(&policy(), 2));
    guest.world().now_ms += 1000;
    assert_eq!(calls(guest.request(call("web"))), 0);
}

#[test]
fn a_caller_without_a_credential_is_known_by_its_network() {
    let mut guest = guest("");
    for address in ["10.1.2.3:4711", "[2001:db8::1]:4711", "[2001:db8::1%eth0]:4711", "[::ffff:10.1.2.3]:4711"] {
        assert_eq!(source_of(&mut guest, address).as_deref(), Some("lan"), "{address}");
    }
    let answer = guest.request(from("10.1.2.3:4711", to_db()));
    assert!(answer.forwarded);
    for address in
        ["192.0.2.1:4711", "[2001:db9::1]:4711", "", "10.1.2.3", "10.1.2.3.4:1", "010.1.2.3:1", "@", "pipe:1"]
    {
        assert_eq!(source_of(&mut guest, address).as_deref(), Some("anonymous"), "{address}");
    }
}

#[test]
fn what_a_client_says_of_its_address_counts_for_nothing() {
    let forged = from("192.0.2.1:4711", to_db()).with("x-forwarded-for", "10.1.2.3").with("x-real-ip", "10.1.2.3");
    let answer = guest("").request(forged);
    assert_eq!(answer.verdict(), ("deny".to_owned(), "default".to_owned(), 401));
}

#[test]
fn the_order_of_the_entry_point_decides_who_a_caller_is() {
    let both = || from("10.1.2.3:4711", call("web"));
    for (entry_point, source) in [("", "web"), ("other", "web"), ("partners", "lan")] {
        let answer = guest(entry_point).request(both());
        assert!(answer.forwarded);
        assert_eq!(answer.request.header("x-portcullis-source").as_deref(), Some(source), "{entry_point}");
    }
}
