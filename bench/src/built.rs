//! Whole requests in the built plugin: instances that are warm, and cold ones.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, KeyPair, SanType};

use crate::guest::{Asked, Guest, Plugin};
use crate::measure::Series;
use crate::subject::{COMMON, Layer, caller, destination, requests, snapshot, spiffe};

/// Requests of a turn.
const TURN: usize = 512;
/// Cold instances of a turn.
const COLD_TURN: usize = 8;
/// Different requests. An instance remembers fewer answers than that.
const REQUESTS: usize = 1024;

/// An instance with its requests, warm.
pub(crate) struct Built {
    /// What was measured.
    pub(crate) series: Series,
    guest: Guest,
    requests: Vec<Arc<Asked>>,
    next: usize,
}

/// One request to a new instance each time.
pub(crate) struct Cold {
    /// What was measured.
    pub(crate) series: Series,
    snapshot: Arc<Vec<u8>>,
    request: Arc<Asked>,
}

/// Certificate headers of the callers of every destination, and of as many strangers: an instance remembers that many.
pub(crate) struct Headers(Vec<String>);

impl Headers {
    pub(crate) fn new() -> Result<Self> {
        let names = (0..COMMON).flat_map(|index| [caller(0, index), format!("stranger-{index}")]);
        Ok(Self(names.map(|name| header(&name)).collect::<Result<_>>()?))
    }

    fn of(&self, index: usize, is_known: bool) -> &str {
        &self.0[2 * (index % COMMON) + usize::from(!is_known)]
    }
}

impl Built {
    /// The same mix as natively: one request that meets an intention, then three that do not.
    pub(crate) fn new(plugin: &Plugin, headers: &Headers, layer: Layer, n_intentions: usize) -> Result<Self> {
        let mix = requests(n_intentions, REQUESTS).into_iter().enumerate().map(|(index, asked)| {
            let is_known = index % 4 == 0 || !asked.caller.starts_with("stranger");
            Asked::new(&asked.destination, headers.of(index / 4, is_known), asked.uri, &[])
        });
        let guest = plugin.start(&Arc::new(snapshot(layer, n_intentions)))?;
        Self::with(guest, mix.collect(), REQUESTS / 16)
    }

    /// One request again and again, as a busy connection sends it: everything about it is remembered.
    pub(crate) fn again(plugin: &Plugin, headers: &Headers, layer: Layer, n_intentions: usize) -> Result<Self> {
        let guest = plugin.start(&Arc::new(snapshot(layer, n_intentions)))?;
        Self::with(guest, vec![Asked::new(&destination(0), headers.of(0, true), "/v1/items/17?full=1", &[])], 1)
    }

    fn with(mut guest: Guest, requests: Vec<Arc<Asked>>, allowed_at_least: usize) -> Result<Self> {
        let mut allowed = 0;
        for request in &requests {
            allowed += usize::from(guest.ask(request)?);
        }
        ensure!(allowed >= allowed_at_least, "only {allowed} of {} requests are allowed", requests.len());
        Ok(Self { series: Series::default(), guest, requests, next: 0 })
    }

    pub(crate) fn turn(&mut self) -> Result<()> {
        let (guest, requests, start) = (&mut self.guest, &self.requests, self.next);
        let mut outcome = Ok(());
        self.series.round(TURN, || {
            for request in requests.iter().cycle().skip(start).take(TURN) {
                match guest.ask(request) {
                    Ok(allowed) => drop(black_box(allowed)),
                    Err(error) => outcome = Err(error),
                }
            }
        });
        self.next = (start + TURN) % self.requests.len();
        outcome
    }
}

impl Cold {
    pub(crate) fn new(headers: &Headers, layer: Layer, n_intentions: usize) -> Self {
        let request = Asked::new(&destination(n_intentions / 20), headers.of(0, true), "/v1/items/17?full=1", &[]);
        Self { series: Series::default(), snapshot: Arc::new(snapshot(layer, n_intentions)), request }
    }

    /// Instances are kept until the turn is over: what their end costs is no one's waiting time.
    pub(crate) fn turn(&mut self, plugin: &Plugin) -> Result<()> {
        let mut guests = Vec::with_capacity(COLD_TURN);
        let mut outcome = Ok(());
        self.series.round(COLD_TURN, || {
            for _ in 0..COLD_TURN {
                let started = plugin.start(&self.snapshot).and_then(|mut guest| {
                    ensure!(guest.ask(&self.request)?, "the first request is denied");
                    Ok(guest)
                });
                match started {
                    Ok(guest) => guests.push(guest),
                    Err(error) => outcome = Err(error),
                }
            }
        });
        outcome
    }
}

/// A certificate header as `passTLSClientCert` writes it.
pub(crate) fn header(caller: &str) -> Result<String> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(spiffe(caller).as_str().try_into()?)];
    let certificate = params.self_signed(&KeyPair::generate()?)?;
    Ok(BASE64_STANDARD.encode(certificate.der()))
}
