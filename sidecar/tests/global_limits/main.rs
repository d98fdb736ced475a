//! Two hosts that share a limit through a real Redis: the declared bound holds while it runs, nothing fails while it does
//! not, and the bound holds again afterwards.
//!
//! A host is a state folder with its part of the sidecar, and threads that charge as a guest does. Redis is
//! `REDIS_SERVER`, else on the search path; `none` leaves these tests out, as they are where there is none, except under
//! `PORTCULLIS_REQUIRE=1`.

#![expect(clippy::print_stderr, reason = "what was measured, and what is left out")]

mod host;
mod redis_server;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use host::{BURST, Host, RATE, bound_is_kept, flood};
use portcullis::config::StoreDown;
use redis_server::RedisServer;

/// What the reference allows for the way from an admission to its charge on the other host.
const LAG: Duration = Duration::from_millis(250);

fn two_hosts(server: &RedisServer, store_down: StoreDown) -> [Host; 2] {
    let hosts = [Host::start(&server.url(), store_down), Host::start(&server.url(), store_down)];
    for host in &hosts {
        host.wait_for("store_hosts", |hosts| hosts == 2);
        host.wait_for("store_up", |up| up == 1);
    }
    hosts
}

fn count(admitted: &[Instant]) -> f64 {
    f64::from(u32::try_from(admitted.len()).unwrap())
}

fn between(admitted: &[Instant], from: Instant, to: Instant) -> f64 {
    count(&admitted.iter().copied().filter(|at| (from..to).contains(at)).collect::<Vec<_>>())
}

#[test]
fn two_hosts_keep_to_the_bound_in_every_window_and_use_what_is_allowed() {
    let Some(server) = RedisServer::for_test() else { return };
    let hosts = two_hosts(&server, StoreDown::Local);
    let length = Duration::from_secs(4);
    let admitted = flood(&hosts, length, || sleep(length));
    bound_is_kept(&admitted, 2, LAG);
    let allowed = RATE * length.as_secs_f64();
    assert!(count(&admitted) > 0.9 * allowed, "{} of {allowed}", admitted.len());
    for host in &hosts {
        host.wait_for("store_received_units_total", |units| units > 0);
        assert_eq!(host.metric("store_lost_messages_total"), 0);
    }
}

#[test]
fn pulses_on_both_hosts_at_once_keep_to_the_bound() {
    let Some(server) = RedisServer::for_test() else { return };
    let hosts = two_hosts(&server, StoreDown::Local);
    let mut admitted = Vec::new();
    for _ in 0..3 {
        admitted.extend(flood(&hosts, Duration::from_millis(300), || {}));
        sleep(Duration::from_millis(700));
    }
    bound_is_kept(&admitted, 2, LAG);
    assert!(count(&admitted) > BURST, "{}", admitted.len());
}

#[test]
fn while_redis_is_dead_each_host_goes_on_alone_and_then_the_bound_holds_again() {
    let Some(mut server) = RedisServer::for_test() else { return };
    let hosts = two_hosts(&server, StoreDown::Local);
    let mut marks = Vec::new();
    let admitted = flood(&hosts, Duration::from_secs(12), || {
        sleep(Duration::from_secs(1));
        server.kill();
        // By then the debts are paid.
        sleep(Duration::from_secs(2));
        marks.push(Instant::now());
        sleep(Duration::from_secs(2));
        marks.push(Instant::now());
        // With nothing in it: nothing was.
        server.start();
        sleep(Duration::from_secs(5));
        marks.push(Instant::now());
        sleep(Duration::from_secs(2));
    });
    let [dead, restarted, healed] = marks[..] else { panic!("{marks:?}") };
    let alone = between(&admitted, dead, restarted);
    let allowed = RATE * (restarted - dead).as_secs_f64();
    assert!(alone > 1.9 * allowed && alone <= 2.0 * (allowed + BURST), "{alone}, one host's part is {allowed}");
    let after: Vec<_> = admitted.iter().copied().filter(|at| *at >= healed).collect();
    bound_is_kept(&after, 2, LAG);
    for host in &hosts {
        assert_eq!(host.metric("store_up"), 1);
        assert_eq!(host.metric("store_connections_total"), 2);
    }
}

#[test]
fn while_redis_hangs_each_host_keeps_its_part_if_it_is_told_to() {
    let Some(server) = RedisServer::for_test() else { return };
    let hosts = two_hosts(&server, StoreDown::Share);
    let mut marks = Vec::new();
    let admitted = flood(&hosts, Duration::from_secs(6), || {
        sleep(Duration::from_millis(500));
        server.pause();
        sleep(Duration::from_millis(2500));
        marks.push(Instant::now());
        sleep(Duration::from_secs(2));
        marks.push(Instant::now());
        server.go_on();
        sleep(Duration::from_secs(1));
    });
    let part = between(&admitted, marks[0], marks[1]);
    let allowed = RATE * (marks[1] - marks[0]).as_secs_f64();
    assert!(part > 0.8 * allowed, "{part} of {allowed}");
    // Each host's 100 ms until it charges itself for the other.
    assert!(part <= allowed + BURST + 2.0 * (BURST + RATE * 0.1), "{part} of {allowed}");
    for host in &hosts {
        host.wait_for("store_up", |up| up == 1);
    }
}

#[test]
fn what_is_wiped_is_not_missed() {
    let Some(server) = RedisServer::for_test() else { return };
    let hosts = two_hosts(&server, StoreDown::Local);
    let admitted = flood(&hosts, Duration::from_secs(2), || {
        for _ in 0..10 {
            sleep(Duration::from_millis(150));
            server.command(&["FLUSHALL"]);
        }
    });
    bound_is_kept(&admitted, 2, LAG);
    assert_eq!(hosts[0].metric("store_connections_total"), 1);
}

#[test]
fn garbage_on_the_channel_is_counted_and_changes_nothing() {
    let Some(server) = RedisServer::for_test() else { return };
    let hosts = two_hosts(&server, StoreDown::Local);
    let large = vec![b'x'; 1 << 20];
    let admitted = flood(&hosts, Duration::from_secs(2), || {
        for turn in 0..40_u8 {
            for bytes in [&b""[..], b"hello", b"PCLU\x02later", b"PCLU\x01\xff\xff\xff\xff\xff", &[turn; 300]] {
                server.publish(bytes);
            }
            if turn % 4 == 0 {
                server.publish(&large);
            }
            sleep(Duration::from_millis(40));
        }
    });
    bound_is_kept(&admitted, 2, LAG);
    assert!(count(&admitted) > 0.9 * RATE * 2.0, "{}", admitted.len());
    for host in &hosts {
        host.wait_for("store_refused_messages_total{reason=\"too_long\"}", |n| n == 10);
        host.wait_for("store_refused_messages_total{reason=\"malformed\"}", |n| n == 40);
        host.wait_for("store_refused_messages_total{reason=\"other_version\"}", |n| n == 160);
        assert_eq!(host.metric("store_connections_total"), 1);
    }
}

#[test]
fn a_server_with_users_is_reached_with_a_password_from_a_file() {
    let Some(server) = RedisServer::for_test() else { return };
    let allowed = "on >s3cret resetchannels &portcullis:limits -@all +publish +subscribe";
    server.command(&[&["ACL", "SETUSER", "gate"][..], &allowed.split(' ').collect::<Vec<_>>()].concat());
    server.command(&["ACL", "SETUSER", "default", "off"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong\n").unwrap();
    let host = Host::start_with(|redis| {
        redis.url = Some(server.url_as("gate"));
        redis.password_file = Some(file.path().to_owned());
    });
    sleep(Duration::from_millis(500));
    assert_eq!(host.metric("store_connected"), 0);
    // It is read again at every attempt.
    std::fs::write(file.path(), "s3cret\n").unwrap();
    host.wait_for("store_up", |up| up == 1);
}
