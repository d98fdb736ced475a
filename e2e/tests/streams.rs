//! Streams pass untouched: nothing on the way may wait for the end, keep the body, or hide that it broke.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use portcullis_e2e::backend::{EVENT_PAUSE, EVENTS};
use portcullis_e2e::client::{empty, next_piece, patterned, request};
use portcullis_e2e::parts::Parts;
use portcullis_e2e::pattern;
use portcullis_e2e::report::{mebibytes, say};
use portcullis_e2e::world::World;
use tokio_tungstenite::tungstenite::Message;

/// The size of the large bodies: 1 GiB.
const LARGE: u64 = 1024 * 1024 * 1024;
/// How much Traefik's memory may grow while a large body passes. It copies through buffers of 32 KiB; the rest is Go's
/// collector at its ease.
const GROWTH_BYTES: u64 = 48 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_echoes_through_the_gate() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let stream = world.caller("web").unwrap().open("web.localhost").await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async("wss://web.localhost/ws", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    for number in 0..100 {
        let message = Message::text(format!("message {number}"));
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    let large = Message::binary(pattern::piece(0, 1_000_000));
    socket.send(large.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), large);
    socket.close(None).await.unwrap();

    // The handshake is a request like any other.
    let stream = world.anonymous().unwrap().open("web.localhost").await.unwrap();
    let refused = tokio_tungstenite::client_async("wss://web.localhost/ws", stream).await;
    let refused = refused.map(|(_, response)| response).unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_arrive_one_by_one() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let mut connection = world.caller("web").unwrap().connect("web.localhost").await.unwrap();
    let started = Instant::now();
    let mut body = connection
        .start(request("GET", "web.localhost", "/events", &[("Accept", "text/event-stream")], empty()).unwrap())
        .await
        .unwrap()
        .into_body();
    let (mut text, mut first) = (String::new(), None);
    while let Some(piece) = next_piece(&mut body).await.unwrap() {
        text += std::str::from_utf8(&piece).unwrap();
        first.get_or_insert_with(|| started.elapsed());
    }
    let (first, last) = (first.unwrap(), started.elapsed());
    say(&format!("first event after {first:?}, the last after {last:?}"));
    assert_eq!(text, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    // All but the first pause, with some room for a slow start.
    assert!(last.saturating_sub(first) > EVENT_PAUSE.mul_f64(f64::from(EVENTS) - 1.25), "they came at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_passes_in_both_directions_byte_by_byte_without_filling_the_gateway() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let mut connection = world.caller("web").unwrap().connect("web.localhost").await.unwrap();
    // Warm: the first requests make guests and buffers.
    for _ in 0..20 {
        let warm = request("GET", "web.localhost", "/stream?bytes=1000000", &[], empty()).unwrap();
        assert_eq!(connection.send(warm).await.unwrap().status, 200);
    }
    let before = world.traefik.usage().unwrap().resident_bytes;
    let mut most = before;

    let started = Instant::now();
    let path = format!("/stream?bytes={LARGE}");
    let download = request("GET", "web.localhost", &path, &[], empty()).unwrap();
    let mut body = connection.start(download).await.unwrap().into_body();
    let mut check = pattern::Check::default();
    let mut next_look = 0;
    while let Some(piece) = next_piece(&mut body).await.unwrap() {
        check.take(&piece);
        if check.bytes() >= next_look {
            most = most.max(world.traefik.usage().unwrap().resident_bytes);
            next_look += LARGE / 64;
        }
    }
    assert!(check.exact(), "the download differs");
    assert_eq!(check.bytes(), LARGE);
    let (download_took, started) = (started.elapsed(), Instant::now());

    let upload = request("POST", "web.localhost", "/upload", &[], patterned(LARGE)).unwrap();
    let sending = connection.send(upload);
    tokio::pin!(sending);
    let answer = loop {
        tokio::select! {
            answer = &mut sending => break answer.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                most = most.max(world.traefik.usage().unwrap().resident_bytes);
            }
        }
    };
    assert_eq!(answer.json().unwrap(), serde_json::json!({"bytes": LARGE, "exact": true}));
    most = most.max(world.traefik.usage().unwrap().resident_bytes);
    say(&format!(
        "1 GiB down in {download_took:.1?}, up in {:.1?}; Traefik {} before, at most {}",
        started.elapsed(),
        mebibytes(before),
        mebibytes(most)
    ));
    assert!(most < before + GROWTH_BYTES, "Traefik grew from {before} to {most} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_upstream_breaks_at_the_client() {
    let Some(parts) = Parts::for_test() else { return };
    let world = World::start(&parts).await.unwrap();
    let client = world.caller("web").unwrap();
    for _ in 0..5 {
        let mut connection = client.connect("web.localhost").await.unwrap();
        let answer =
            connection.start(request("GET", "web.localhost", "/truncated", &[], empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let (mut body, mut bytes) = (answer.into_body(), 0);
        let end = loop {
            match next_piece(&mut body).await {
                Ok(Some(piece)) => bytes += piece.len(),
                end => break end,
            }
        };
        assert!(end.is_err(), "the half body looks whole: {bytes} bytes");
    }
    // And the guests that saw it are as good as before.
    for _ in 0..20 {
        assert_eq!(client.get("web.localhost", "/", &[]).await.unwrap().status, 200);
        let nobody = world.anonymous().unwrap();
        assert_eq!(nobody.get("web.localhost", "/", &[]).await.unwrap().status, 401);
    }
}
