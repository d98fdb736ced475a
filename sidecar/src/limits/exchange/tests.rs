//! Exchanges that hear each other through a vector instead of a store.

use super::*;
use crate::limits::message::Amount;

const MS: u64 = 1_000_000;
const RATE: Amount = Amount::Rate { interval_ns: 10 * MS, burst: 20 };

fn usage(key: u64, units: u32) -> Usage {
    Usage { key, tag: 7, amount: RATE, units }
}

fn host(id: u128, store_down: StoreDown) -> Exchange {
    Exchange::new(id, store_down, 1)
}

/// Lets everyone speak and hear everyone, at one time of the common clock, which each host sees shifted by its own number.
fn round(now_ns: u64, hosts: &mut [Exchange]) -> Vec<Vec<Usage>> {
    let shifted = |exchange: &Exchange| now_ns + u64::try_from(exchange.host).unwrap() * 1_000_000_000_000;
    let said: Vec<_> = hosts.iter_mut().flat_map(|it| it.tick(shifted(it)).messages).collect();
    let hear = |it: &mut Exchange| said.iter().flat_map(|bytes| it.receive(shifted(it), bytes)).collect();
    hosts.iter_mut().map(hear).collect()
}

#[test]
fn usage_reaches_every_other_host_once_and_never_its_own() {
    let mut hosts = [1, 2, 3].map(|id| host(id, StoreDown::Local));
    round(0, &mut hosts);
    hosts[0].note(usage(5, 2));
    hosts[0].note(usage(5, 3));
    hosts[1].note(usage(6, 1));
    let charged = round(100 * MS, &mut hosts);
    assert_eq!(charged, [vec![usage(6, 1)], vec![usage(5, 5)], vec![usage(5, 5), usage(6, 1)]]);
    assert!(round(200 * MS, &mut hosts).concat().is_empty());
    let now = |id: u64| id * 1_000_000_000_000 + 400 * MS;
    round(400 * MS, &mut hosts);
    for (id, host) in (1..).zip(&mut hosts) {
        host.tick(now(id));
        assert!(host.is_up(now(id)) && host.hosts() == 3, "{host:?}");
    }
}

#[test]
fn a_message_that_is_said_again_is_charged_once_and_a_gap_is_counted() {
    let (mut a, mut b) = (host(1, StoreDown::Local), host(2, StoreDown::Local));
    a.note(usage(1, 1));
    let first = a.tick(0).messages;
    assert_eq!(b.receive(0, &first[0]), [usage(1, 1)]);
    assert_eq!(b.receive(0, &first[0]), []);
    a.note(usage(1, 1));
    a.tick(100 * MS);
    a.note(usage(1, 1));
    let third = a.tick(200 * MS).messages;
    assert_eq!(b.receive(200 * MS, &third[0]), [usage(1, 1)]);
    assert_eq!((b.counts().refused["said_twice"], b.counts().lost), (1, 1));
}

#[test]
fn what_was_under_way_too_long_is_dropped_whatever_the_clocks_say() {
    let (mut a, mut b) = (host(1, StoreDown::Local), host(2, StoreDown::Local));
    let far = 1_000_000 * STALE_NS;
    assert!(b.receive(far, &a.tick(0).messages[0]).is_empty());
    let mut send = |at: u64| {
        a.note(usage(1, 1));
        a.tick(at).messages[0].clone()
    };
    let (prompt, late) = (send(300 * MS), send(400 * MS));
    assert_eq!(b.receive(far + 310 * MS, &prompt), [usage(1, 1)]);
    assert_eq!(b.receive(far + 400 * MS + STALE_NS + MS, &late), []);
    assert_eq!(b.counts().dropped["late"], 1);
    // Clocks that drift apart by a thousandth are no delay: what was fastest long ago is forgotten.
    for second in 2..4000_u64 {
        let at = second * STALE_NS;
        assert_eq!(b.receive(far + at + at / 1000, &send(at)), [usage(1, 1)], "{second}");
    }
}

#[test]
fn without_a_store_each_host_keeps_its_part_if_it_is_told_to() {
    for (store_down, expected) in [(StoreDown::Local, vec![]), (StoreDown::Share, vec![usage(1, 6)])] {
        let mut hosts = [1, 2, 3, 4].map(|id| host(id, store_down));
        for time in 0..10 {
            round(time * 100 * MS, &mut hosts);
        }
        let a = &mut hosts[0];
        let base = 1_000_000_000_000 + 900 * MS;
        a.note(usage(1, 2));
        assert_eq!(a.tick(base + 100 * MS).charges, [], "it is up");
        a.note(usage(1, 2));
        assert!(!a.is_up(base + 2 * STALE_NS));
        assert_eq!(a.tick(base + 2 * STALE_NS).charges, expected);
        // However long it takes: nobody is forgotten meanwhile.
        a.note(usage(1, 2));
        assert_eq!(a.tick(base + 1000 * STALE_NS).charges, expected);
    }
}

#[test]
fn a_host_that_never_heard_anyone_shares_with_those_that_are_configured() {
    let mut a = Exchange::new(1, StoreDown::Share, 3);
    a.note(usage(1, 2));
    assert_eq!(a.tick(0).charges, [usage(1, 4)]);
    let mut alone = Exchange::new(1, StoreDown::Share, 1);
    alone.note(usage(1, 2));
    assert_eq!(alone.tick(0).charges, []);
}

#[test]
fn hosts_that_fall_silent_are_not_counted_any_more() {
    let mut hosts = [host(1, StoreDown::Share), host(2, StoreDown::Share)];
    for time in 0..6 {
        round(time * 100 * MS, &mut hosts);
    }
    assert_eq!(hosts[0].hosts(), 2);
    for time in 6..60 {
        round(time * 100 * MS, &mut hosts[..1]);
    }
    assert_eq!(hosts[0].hosts(), 1);
}

#[test]
fn whoever_invents_hosts_does_not_silence_a_real_one() {
    let mut a = host(0, StoreDown::Local);
    for id in 1..1000 {
        let message = Message { host: id, sequence: 1, sent_ns: 0, usages: Vec::new() };
        a.receive(0, &message.encode());
    }
    a.heard_ns = Some(0);
    a.tick(0);
    assert_eq!(a.hosts(), MAX_HOSTS);
    let mut real = host(5000, StoreDown::Local);
    real.note(usage(1, 1));
    assert_eq!(a.receive(0, &real.tick(0).messages[0]), [usage(1, 1)]);
}

#[test]
fn more_keys_than_fit_are_told_in_parts_and_a_flood_of_keys_is_bounded() {
    let mut a = host(1, StoreDown::Local);
    let n_keys = MAX_PENDING as u64 + 10;
    for key in 0..n_keys {
        a.note(usage(key, 1));
    }
    a.note(usage(0, 1));
    let messages = a.tick(0).messages;
    assert_eq!(messages.len(), MAX_PENDING / MAX_USAGES);
    let told: u64 = messages.iter().map(|bytes| Message::decode(bytes).unwrap().usages.len() as u64).sum();
    assert_eq!((told, a.counts().dropped["too_many"]), (n_keys - 10, 10));
}

#[test]
fn garbage_is_counted_and_charges_nothing() {
    let mut a = host(1, StoreDown::Local);
    for bytes in [&b""[..], b"hello", b"PCLU\x02zzz", b"PCLU\x01zzz"] {
        assert_eq!(a.receive(0, bytes), []);
    }
    assert_eq!(a.counts().refused.values().sum::<u64>(), 4);
}
