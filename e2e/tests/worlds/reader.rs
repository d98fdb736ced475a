//! Looks all the time at a service that nothing happens to: it is never missing, never another one, and never written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_e2e::client::{Client, empty, request};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The service.
pub(crate) const CALM: &str = "calm";
/// Between two looks, and after one that was not answered.
const PAUSE: Duration = Duration::from_millis(5);

/// The running reader.
pub(crate) struct Reader {
    task: JoinHandle<String>,
    answered: Arc<AtomicUsize>,
}

impl Reader {
    /// What it sees first is what it wants to see. An answer is compared as text: it holds the indexes of all writes.
    pub(crate) fn start(address: std::net::SocketAddr) -> Reader {
        let answered = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&answered);
        let task = tokio::spawn(async move {
            let (mut first, mut connection) = (None, None);
            loop {
                sleep(PAUSE).await;
                if connection.is_none() {
                    connection = Client::plain(address).connect("localhost").await.ok();
                }
                let Some(open) = &mut connection else { continue };
                // A server that has just become the leader may not know yet what it once was told; asked so, it says that.
                let path = format!("/v1/health/service/{CALM}?consistent");
                let request = request("GET", "localhost", &path, &[], empty()).unwrap();
                match open.send(request).await {
                    // Consul that starts, or has no leader yet, answers 500: nothing is known then.
                    Ok(answer) if answer.status == 200 => {
                        counter.fetch_add(1, Ordering::Relaxed);
                        let now = answer.text();
                        let first: &mut String = first.get_or_insert_with(|| now.clone());
                        if now != *first {
                            return format!("was {first}\nis  {now}");
                        }
                    }
                    Ok(_) => {}
                    Err(_) => connection = None,
                }
            }
        });
        Reader { task, answered }
    }

    /// How many looks were answered so far, all alike.
    pub(crate) async fn must_be_calm(&mut self) -> usize {
        let touched = if self.task.is_finished() { Some((&mut self.task).await.unwrap()) } else { None };
        assert_eq!(touched, None, "the service that nothing happens to was touched");
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}
