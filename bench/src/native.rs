//! `decide`, natively, on snapshots in memory.

use std::hint::black_box;

use anyhow::{Result, ensure};
use portcullis_policy::{Certificate, Certified, Request, Snapshot, Verdict, decide};

use crate::measure::Series;
use crate::subject::{Asked, Layer, certificate, requests, snapshot};

/// Requests of a turn.
const TURN: usize = 16_384;

/// One policy with its requests.
pub(crate) struct Native {
    /// What was measured.
    pub(crate) series: Series,
    snapshot: Snapshot<Vec<u8>>,
    requests: Vec<(Asked, Certificate)>,
}

impl Native {
    /// Compiles the policy and makes so many different requests, which are asked in turn.
    pub(crate) fn new(layer: Layer, n_intentions: usize, n_requests: usize) -> Result<Self> {
        let requests = requests(n_intentions, n_requests);
        let requests = requests.into_iter().map(|asked| {
            let certificate = certificate(&asked.caller);
            (asked, certificate)
        });
        let snapshot = Snapshot::open(snapshot(layer, n_intentions))?;
        let it = Self { series: Series::default(), snapshot, requests: requests.collect() };
        // What is measured must be what is meant: a quarter meets an intention, and about half of those are allowed.
        let allowed = it.requests.iter().filter(|request| it.ask(request) == Verdict::Allow).count();
        ensure!((n_requests / 16..n_requests / 4).contains(&allowed), "{allowed} of {n_requests} requests are allowed");
        Ok(it)
    }

    /// One turn.
    pub(crate) fn turn(&mut self) {
        let mut series = std::mem::take(&mut self.series);
        series.round(TURN, || {
            for request in self.requests.iter().cycle().take(TURN) {
                black_box(self.ask(request));
            }
        });
        self.series = series;
    }

    fn ask(&self, (asked, certificate): &(Asked, Certificate)) -> Verdict {
        let request = Request {
            destination: &asked.destination,
            uri: asked.uri,
            host: "shop.example",
            certificate: Certified::Verified(certificate),
            now: 1,
            ..Request::default()
        };
        decide(&self.snapshot, black_box(&request)).verdict
    }
}
