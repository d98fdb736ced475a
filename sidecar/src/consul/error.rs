//! What can go wrong with Consul, and what to do about it.

use reqwest::StatusCode;

/// A call that did not give what was asked for; `Display` is one line that says where, what and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}; {hint}")]
pub struct ConsulError {
    /// The call, or the setting.
    pub at: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: &'static str,
    /// Whether the same call may succeed a moment later without anybody doing anything.
    pub transient: bool,
}

const TOKEN: &str = "check the token and its policy (docs/guide/registrations.md); nothing is removed meanwhile";
const SERVER: &str = "look at Consul's own log; tried again";

// === impl ConsulError ===

impl ConsulError {
    /// Something that only a person can mend.
    pub fn standing(at: &str, what: impl Into<String>, hint: &'static str) -> Self {
        Self { at: at.to_owned(), what: what.into(), hint, transient: false }
    }

    /// Something that passes.
    pub fn passing(at: &str, what: impl Into<String>, hint: &'static str) -> Self {
        Self { at: at.to_owned(), what: what.into(), hint, transient: true }
    }

    /// An answer other than 200 and 404.
    pub(super) fn status(at: &str, status: StatusCode, text: &str) -> Self {
        let what = format!("{status}: {}", text.trim());
        match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Self::standing(at, what, TOKEN),
            StatusCode::TOO_MANY_REQUESTS => Self::passing(at, what, "raise Consul's limits; tried again"),
            // Consul answers 500 to what is not valid, too; what we send is, so it is taken for a fault of its own.
            status if status.is_server_error() => Self::passing(at, what, SERVER),
            _ => Self::standing(at, what, "check the address: this is no answer of the Consul that we know"),
        }
    }

    /// A connection that failed.
    pub(super) fn connection(at: &str, error: &reqwest::Error) -> Self {
        // reqwest's own text names the address and hides the reason.
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        let hint = "check that Consul runs there, and address, caFile and CONSUL_HTTP_SSL; tried again";
        Self::passing(at, if error.is_timeout() { "no answer in time".to_owned() } else { reason.to_string() }, hint)
    }

    /// A list that the token may not see as a whole.
    pub(super) fn filtered(at: &str) -> Self {
        let hint =
            "the token needs node_prefix \"\" and service_prefix \"\" read; what is hidden would look like removed";
        Self::standing(at, "Consul has left out of the answer what the token may not see", hint)
    }

    /// An answer that cannot be understood.
    pub(super) fn garbage(at: &str, what: impl Into<String>) -> Self {
        Self::passing(at, what, "check that the address is Consul's HTTP API; tried again")
    }
}
