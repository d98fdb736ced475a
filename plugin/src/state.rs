//! What one instance keeps between the requests that it handles.

use crate::{
    certificates::Certificates,
    config::{self, Level, Misconfigured, PolicyFrom, Settings},
    file::StateFile,
    host::Host,
    limits::Limits,
    source::Source,
    verified::{self, Verified},
};

/// An instance's memory: made at its first request, never shared with another instance.
pub struct State {
    /// The settings and the policy, or why there are none: then every request is denied.
    pub gate: Result<Gate, Misconfigured>,
    /// Certificates already parsed.
    pub certificates: Certificates,
}

/// A usable configuration.
pub struct Gate {
    /// What the operator set.
    pub settings: Settings,
    /// Where decisions come from.
    pub source: Source,
    /// Which signatures need no second verification.
    pub verified: Verified<StateFile>,
    /// The limits that requests are charged to.
    pub limits: Limits,
}

impl State {
    /// Reads the configuration, and says in the log what is wrong with it.
    pub fn new<H: Host>(configuration: &[u8], host: &H) -> Self {
        let gate = Gate::new(configuration, host);
        if let Err(misconfigured) = &gate {
            host.log(Level::Warn, &crate::text::line(&format!("every request is denied: {misconfigured}")));
        }
        Self { gate, certificates: Certificates::default() }
    }
}

impl Gate {
    fn new<H: Host>(configuration: &[u8], host: &H) -> Result<Self, Misconfigured> {
        let (settings, mut warnings) = config::read(configuration)?;
        let source = match &settings.policy {
            PolicyFrom::Snapshot(path) => Source::file(path.clone(), settings.reload_ms),
            PolicyFrom::Inline(inline) => {
                let (bytes, problems) = inline.compile()?;
                warnings.extend(problems);
                Source::inline(bytes).map_err(|error| Misconfigured::Policy(error.to_string()))?
            }
        };
        for warning in warnings {
            host.log(Level::Warn, &crate::text::line(&warning));
        }
        let verified =
            settings.state.as_ref().map(|folder| StateFile::new(format!("{folder}/{}", verified::FILE_NAME)));
        let limits = Limits::new(settings.state.as_deref());
        Ok(Self { settings, source, verified: Verified::new(verified), limits })
    }
}
