//! `decide`, natively, on snapshots in memory.

use std::hint::black_box;

use portcullis_policy::{Certificate, Certified, Request, Snapshot, Verdict, decide};

use crate::measure::Series;
use crate::subject::{Asked, Layer, certificate, requests, snapshot};

/// Requests of a round.
const REQUESTS: usize = 16_384;

/// One policy with its requests.
pub(crate) struct Native {
    /// Of the intentions.
    pub(crate) layer: Layer,
    /// How many there are.
    pub(crate) n_intentions: usize,
    /// What was measured.
    pub(crate) series: Series,
    snapshot: Snapshot<Vec<u8>>,
    requests: Vec<(Asked, Certificate)>,
}

impl Native {
    /// Compiles the policy and makes the requests.
    pub(crate) fn new(layer: Layer, n_intentions: usize) -> anyhow::Result<Self> {
        let requests = requests(n_intentions, REQUESTS);
        let requests = requests.into_iter().map(|asked| (certificate(&asked.caller), asked)).map(|(a, b)| (b, a));
        let snapshot = Snapshot::open(snapshot(layer, n_intentions))?;
        let it = Self { layer, n_intentions, series: Series::default(), snapshot, requests: requests.collect() };
        // What is measured must be what is meant.
        let allowed = it.requests.iter().filter(|request| it.ask(request) == Verdict::Allow).count();
        anyhow::ensure!(
            (REQUESTS / 8..REQUESTS / 2).contains(&allowed),
            "{allowed} of {REQUESTS} requests are allowed"
        );
        Ok(it)
    }

    /// One round.
    pub(crate) fn round(&mut self) {
        let mut series = std::mem::take(&mut self.series);
        series.round(self.requests.len(), || {
            for request in &self.requests {
                black_box(self.ask(request));
            }
        });
        self.series = series;
    }

    fn ask(&self, (asked, certificate): &(Asked, Certificate)) -> Verdict {
        let request = Request {
            destination: &asked.destination,
            method: "GET",
            uri: asked.uri,
            certificate: Certified::Verified(certificate),
            now: 1,
            ..Request::default()
        };
        decide(&self.snapshot, black_box(&request)).verdict
    }
}
