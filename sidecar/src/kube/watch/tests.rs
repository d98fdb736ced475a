//! What a server may say that streams lists, does not, or does it badly: told is what is, and nothing goes before its end.

use std::{convert::Infallible, path::Path, sync::Mutex};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};

use super::*;

/// What the server says to one request.
enum Answer {
    /// These events, and then it waits.
    Stream(Vec<Value>),
    /// These, and then it ends.
    Ends(Vec<Value>),
    /// One page of a list.
    Page(&'static [&'static str]),
    Refuses(u16),
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "resourceVersion": "5"}})
}

fn event(kind: &str, name: &str) -> Value {
    json!({"type": kind, "object": service(name)})
}

fn end(version: &str) -> Value {
    json!({"type": "BOOKMARK", "object": {"kind": "Service", "apiVersion": "v1",
        "metadata": {"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}}})
}

fn answer(answer: Answer) -> Response<Body> {
    let lines =
        |events: Vec<Value>| events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect::<String>();
    let whole = |text: String| Full::from(text).boxed_unsync();
    match answer {
        Answer::Ends(events) => Response::new(whole(lines(events))),
        Answer::Stream(events) => {
            use futures_util::StreamExt as _;
            let first = stream::iter([Ok(Frame::data(Bytes::from(lines(events))))]);
            Response::new(StreamBody::new(first.chain(stream::pending())).boxed_unsync())
        }
        Answer::Page(names) => {
            let items: Vec<_> = names.iter().map(|name| service(name)).collect();
            let list = json!({"kind": "ServiceList", "metadata": {"resourceVersion": "7"}, "items": items});
            Response::new(whole(list.to_string()))
        }
        Answer::Refuses(code) => {
            let status = json!({"kind": "Status", "status": "Failure", "message": "no", "code": code});
            Response::builder().status(code).body(whole(status.to_string())).unwrap()
        }
    }
}

/// A server that gives these answers in their order, and then waits; and what it was asked.
async fn server(folder: &Path, answers: Vec<Answer>) -> (Arc<Connection>, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (answers, asked) = (Arc::new(Mutex::new(answers.into_iter())), Arc::new(Mutex::new(Vec::new())));
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answers, heard) = (Arc::clone(&answers), Arc::clone(&heard));
            let serve = service_fn(move |request: Request<Incoming>| {
                heard.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
                let next = answers.lock().unwrap().next().unwrap_or(Answer::Stream(Vec::new()));
                async { Ok::<_, Infallible>(answer(next)) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve));
        }
    });
    let file = folder.join("kubeconfig");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}]});
    std::fs::write(&file, config.to_string()).unwrap();
    let config = serde_json::from_value(json!({"name": "east", "kubeconfig": file})).unwrap();
    (Arc::new(Connection::new(config)), asked)
}

/// What a watcher says until it has said `n` times that it stands: `+name`, `-name`, `stands`, or `broken`.
async fn told(answers: Vec<Answer>, n: usize) -> (Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (connection, asked) = server(folder.path(), answers).await;
    let (ears, mut told) = mpsc::channel(16);
    let watcher = tokio::spawn(Watcher::<Service>::new(&connection, None, 0, &ears).run());
    let (mut said, mut stood) = (Vec::new(), 0);
    while stood < n || said.last().is_some_and(|last| last == "broken") {
        let (_, next) = timeout(Duration::from_secs(30), told.recv()).await.unwrap().unwrap();
        match next {
            Told::Stands => {
                stood += 1;
                said.push("stands".to_owned());
            }
            Told::Broken(_) => said.push("broken".to_owned()),
            Told::Missing(_) => said.push("missing".to_owned()),
            Told::Changes(changes) => said.extend(changes.iter().map(|change| match change {
                Change::Service(key, Some(_)) => format!("+{}", key.name),
                Change::Service(key, None) => format!("-{}", key.name),
                other => format!("{other:?}"),
            })),
        }
    }
    // What comes behind the last word is on its way.
    while let Ok(Some((_, Told::Changes(changes)))) = timeout(Duration::from_millis(200), told.recv()).await {
        said.extend(changes.iter().map(|change| format!("late {change:.40?}")));
    }
    watcher.abort();
    let asked = asked.lock().unwrap().clone();
    (said, asked)
}

#[tokio::test]
async fn a_streamed_list_is_followed_by_its_own_watch() {
    let events = vec![event("ADDED", "a"), event("ADDED", "b"), event("ADDED", "a"), end("7"), end("8")];
    let (said, asked) = told(vec![Answer::Stream(events)], 1).await;
    assert_eq!(said, ["+a", "+b", "stands"], "a second time is no news, nor is a second end");
    assert_eq!(asked.len(), 1);
    for part in
        ["watch=true", "sendInitialEvents=true", "resourceVersionMatch=NotOlderThan", "allowWatchBookmarks=true"]
    {
        assert!(asked[0].contains(part), "{}", asked[0]);
    }
}

#[tokio::test]
async fn what_comes_in_one_piece_with_the_end_is_a_change_behind_it() {
    let events = vec![event("ADDED", "a"), end("7"), event("ADDED", "b"), event("DELETED", "a")];
    let (said, _) = told(vec![Answer::Stream(events)], 1).await;
    assert_eq!(said, ["+a", "+b", "-a", "stands"]);
}

#[tokio::test]
async fn a_second_streamed_list_replaces_the_first_and_takes_away_only_at_its_end() {
    let gone =
        json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "message": "old", "code": 410}});
    let first = vec![event("ADDED", "a"), event("ADDED", "b"), event("ADDED", "c"), end("7"), gone];
    let second = vec![event("DELETED", "c"), event("ADDED", "b"), event("ADDED", "d"), end("9")];
    let (said, asked) =
        told(vec![Answer::Ends(first), Answer::Page(&["a", "b", "c"]), Answer::Stream(vec![])], 1).await;
    assert_eq!(said, ["+a", "+b", "+c", "stands"], "what is wrong right behind the end leads to pages");
    assert_eq!(asked.len(), 3);
    let end_of_first = vec![event("ADDED", "a"), event("ADDED", "b"), event("ADDED", "c"), end("7")];
    let answers = vec![Answer::Ends(end_of_first), Answer::Refuses(410), Answer::Stream(second)];
    let (said, asked) = told(answers, 2).await;
    assert_eq!(said, ["+a", "+b", "+c", "stands", "broken", "+d", "-a", "-c", "stands"]);
    assert!(asked[1].contains("resourceVersion=7") && asked[2].contains("sendInitialEvents"), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_refuses_to_stream_is_read_in_pages_and_not_asked_again() {
    for code in [400, 422] {
        let answers = vec![
            Answer::Refuses(code),
            Answer::Page(&["a", "b"]),
            Answer::Refuses(410),
            Answer::Page(&["b"]),
            Answer::Stream(vec![event("ADDED", "c")]),
        ];
        let (said, asked) = told(answers, 1).await;
        assert_eq!(said[..5], ["+a", "+b", "broken", "-a", "stands"], "{said:?}");
        assert_eq!(asked.iter().filter(|query| query.contains("sendInitialEvents")).count(), 1, "{asked:?}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_or_lies_takes_nothing_away() {
    let no_version = vec![event("ADDED", "a"), end("")];
    let nonsense = vec![event("ADDED", "a"), json!("<html>")];
    let without_name =
        vec![event("ADDED", "a"), json!({"type": "ADDED", "object": {"metadata": {"resourceVersion": "1"}}})];
    for events in [vec![event("ADDED", "a")], no_version, without_name] {
        let (said, _) = told(vec![Answer::Ends(events), Answer::Page(&["a", "b"])], 1).await;
        assert_eq!(said, ["+a", "+b", "stands"]);
    }
    let (said, _) = told(vec![Answer::Ends(nonsense), Answer::Page(&["a", "b"])], 1).await;
    assert_eq!(said, ["+a", "+b", "stands"]);
}

#[tokio::test]
async fn a_streamed_list_without_an_end_is_left_for_pages() {
    let (said, asked) = told(vec![Answer::Stream(vec![event("ADDED", "a")]), Answer::Page(&["a", "b"])], 1).await;
    assert_eq!(said, ["+a", "+b", "stands"]);
    assert_eq!(asked.len(), 3);
}

#[tokio::test]
async fn a_streamed_list_that_is_empty_of_a_sudden_is_looked_at_twice() {
    let full = vec![event("ADDED", "a"), end("7")];
    let answers =
        vec![Answer::Ends(full), Answer::Refuses(410), Answer::Ends(vec![end("8")]), Answer::Ends(vec![end("9")])];
    let (said, _) = told(answers, 2).await;
    assert_eq!(said, ["+a", "stands", "broken", "broken", "-a", "stands"]);
}
