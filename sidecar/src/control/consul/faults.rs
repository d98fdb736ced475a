//! A list read from a Consul that answers by a script: what of it is taken, and what is asked next.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::*;
use crate::consul::ConsulConfig;

/// Status, further headers and body.
type Reply = (u16, &'static str, String);

/// The list that is told, or the fault; and the `index` of the question.
async fn read(script: Vec<Reply>) -> Vec<(String, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (asked, mut questions) = mpsc::unbounded_channel();
    let n_replies = script.len();
    let server = tokio::spawn(async move {
        for reply in script {
            let (stream, _) = listener.accept().await.unwrap();
            asked.send(answer(stream, reply).await).unwrap();
        }
        // Whoever asks again waits.
        std::future::pending::<()>().await;
    });
    let client = Client::new(&ConsulConfig { address: Some(address), ..ConsulConfig::default() }).unwrap();
    let (ears, mut told) = mpsc::channel(8);
    let list = List::Entries("service-intentions");
    let follower = tokio::spawn(follow(client, list, "consul".to_owned(), (0, 0), ears));
    let mut seen = Vec::new();
    for _ in 0..n_replies {
        let says = timeout(Duration::from_secs(60), told.recv()).await.unwrap().unwrap().says;
        let text = match says {
            Ok(documents) => {
                documents.iter().filter_map(|(place, _)| place.rsplit('/').next()).collect::<Vec<_>>().join(",")
            }
            Err(fault) => format!("! {fault}"),
        };
        seen.push((questions.recv().await.unwrap(), text));
    }
    follower.abort();
    server.abort();
    seen
}

/// Answers one request; the `index` that it asked behind.
async fn answer(mut stream: TcpStream, (status, headers, body): Reply) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        request.extend(byte);
    }
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // Somebody who has had enough goes.
    let _ = stream.write_all(body.as_bytes()).await;
    let request = String::from_utf8(request).unwrap();
    request.split("index=").nth(1).unwrap().split([' ', '&']).next().unwrap().to_owned()
}

fn entries(names: &[&str]) -> String {
    let entry = |name: &&str| serde_json::json!({"Kind": "service-intentions", "Name": name});
    Value::Array(names.iter().map(entry).collect()).to_string()
}

const TEN: &str = "X-Consul-Index: 10\r\n";

#[tokio::test]
async fn what_is_no_whole_answer_of_consul_is_a_fault_and_the_next_question_starts_anew() {
    let good = || (200, TEN, entries(&["a", "b"]));
    let filtered = "X-Consul-Index: 11\r\nX-Consul-Results-Filtered-By-ACLs: true\r\n";
    let faults: [(Reply, &str); 7] = [
        ((200, filtered, entries(&["a"])), "left out of the answer"),
        ((403, TEN, "Permission denied: lacks permission 'mesh:read'".to_owned()), "lacks permission 'mesh:read'"),
        ((500, TEN, "No cluster leader".to_owned()), "500 Internal Server Error: No cluster leader"),
        ((429, "", "Your IP is issuing too many".to_owned()), "429 Too Many Requests"),
        ((404, "", "no such page".to_owned()), "an answer without an index"),
        ((200, TEN, "<html>".to_owned()), "expected value"),
        ((200, TEN, format!("[{}]", " ".repeat((64 << 20) + 1))), "more than 67108864 bytes"),
    ];
    let mut script = vec![good()];
    script.extend(faults.iter().flat_map(|(reply, _)| [reply.clone(), good()]));
    let seen = read(script).await;
    assert_eq!(seen[0], ("0".to_owned(), "a,b".to_owned()));
    for (number, (_, what)) in faults.iter().enumerate() {
        let (fault, mended) = (&seen[number * 2 + 1], &seen[number * 2 + 2]);
        assert!(fault.0 == "10" && fault.1.starts_with("! ") && fault.1.contains(what), "{what}: {:.300}", fault.1);
        assert_eq!(mended, &("0".to_owned(), "a,b".to_owned()), "behind {what}");
    }
}

#[tokio::test]
async fn an_index_that_goes_back_starts_anew_and_none_is_never_asked_behind_zero() {
    let at = |headers, names: &[&str]| (200, headers, entries(names));
    let seen = read(vec![
        at(TEN, &["a", "b"]),
        at("X-Consul-Index: 5\r\n", &["a", "b", "c"]),
        at("X-Consul-Index: 0\r\n", &["a"]),
        at("X-Consul-Index: 6\r\n", &["b"]),
    ])
    .await;
    let indexes: Vec<_> = seen.iter().map(|(index, _)| index.as_str()).collect();
    // The third lost most of what there was, behind a step back: not believed.
    assert_eq!(indexes, ["0", "10", "0", "0"], "{seen:?}");
    assert!(seen[2].1.contains("2 of 3 entries are gone at once"), "{seen:?}");
    assert!(seen[3].1.contains("2 of 3 entries are gone at once"), "{seen:?}");
}
