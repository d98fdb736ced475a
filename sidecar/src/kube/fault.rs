//! What can go wrong with an API server, and what to do about it.

use std::error::Error;

use kube::{client::AuthError, config::KubeconfigError, core::Status};

/// Why something could not be read; `Display` is what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct Fault {
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: &'static str,
    /// What the reader does next.
    pub(super) then: Then,
}

/// How reading goes on after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// From where it was.
    Resume,
    /// From where it was, with the credentials read again.
    Renew,
    /// From the beginning: what was missed is not known.
    Relist,
    /// The same, after some seconds.
    LookAgain,
    /// The same, after a while: there is no such kind.
    Missing,
}

const CREDENTIALS: &str =
    "put a valid token or certificate into the file that the configuration names; it is read again";
const RIGHTS: &str = "grant it as deploy/kubernetes/rbac.yaml does";
const REACH: &str = "check that the API server runs at the kubeconfig's address; tried again";
const ANSWER: &str = "check that the kubeconfig's address is an API server, and what stands between; tried again";
const KIND: &str = "install its definition, or check that the address is an API server; looked for again";
/// Longest text of the server's that is shown.
const SHOWN: usize = 400;

// === impl Fault ===

impl Fault {
    /// The kubeconfig or the service account cannot be used.
    pub(super) fn configuration(error: &(dyn Error + 'static)) -> Self {
        let hint = "check kubeconfig, context and inCluster of this cluster in the configuration; read again";
        let why = guarded(error).unwrap_or_else(|| chain(error));
        Self { what: format!("no way to the API server: {why}"), hint, then: Then::Renew }
    }

    /// The same for something that we do not do.
    pub(super) fn refused(what: &str, hint: &'static str) -> Self {
        Self { what: what.to_owned(), hint, then: Then::Renew }
    }

    /// No connection, or one that ended. The certificate's faults are among them.
    pub(super) fn connection(error: &dyn Error) -> Self {
        let text = chain(error);
        let hint = if text.to_ascii_lowercase().contains("certificate") {
            "check certificate-authority and server name in the kubeconfig, and that the certificates are valid"
        } else {
            REACH
        };
        Self { what: text, hint, then: Then::Renew }
    }

    /// No answer for too long.
    pub(super) fn silence() -> Self {
        Self { what: "no answer in time".to_owned(), hint: REACH, then: Then::Renew }
    }

    /// An answer that is no success. `verb` is what was asked for.
    pub(super) fn status(verb: &str, code: u16, status: Option<&Status>) -> Self {
        let said = status.map(|status| shorten(&status.message)).unwrap_or_default();
        let (hint, then) = match code {
            401 => (CREDENTIALS, Then::Renew),
            403 => (RIGHTS, Then::Resume),
            429 => ("the API server is busy; tried again", Then::Resume),
            500 | 502 | 503 => ("look at the API server's own log; tried again", Then::Resume),
            404 => (KIND, Then::Missing),
            // Too old a version, or one that is not there yet.
            410 | 504 => ("listed again", Then::Relist),
            _ => (ANSWER, Then::Relist),
        };
        let what = match code {
            401 => format!("may not {verb}: the API server does not accept the credentials (401 {said})"),
            403 => format!("may not {verb}: {said}"),
            _ => format!("cannot {verb}: the API server answers {code} {said}"),
        };
        Self { what: what.trim_end().to_owned(), hint, then }
    }

    /// An answer that cannot be understood.
    pub(super) fn garbage(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: ANSWER, then: Then::Relist }
    }

    /// An empty list where there were objects a moment ago.
    pub(super) fn empty(before: usize) -> Self {
        let what = format!("the list is empty, and there were {before}");
        Self { what, hint: "believed when a second list some seconds later is empty too", then: Then::LookAgain }
    }
}

/// The text of failures whose own would show what tokens stand in: the kubeconfig's lines, and what a credential plugin wrote to
/// its output.
fn guarded(error: &(dyn Error + 'static)) -> Option<String> {
    let mut error = Some(error);
    while let Some(present) = error {
        if let Some(KubeconfigError::Parse(fault)) = present.downcast_ref() {
            let at = fault.location().map(|at| format!(" (line {}, column {})", at.line(), at.column()));
            return Some(format!("the kubeconfig cannot be read as one{}", at.unwrap_or_default()));
        }
        let found = present.downcast_ref::<AuthError>().or_else(|| match present.downcast_ref() {
            Some(kube::Error::Auth(auth)) => Some(auth),
            _ => None,
        });
        match found {
            Some(AuthError::AuthExecRun { out, .. }) => {
                let said = String::from_utf8_lossy(&out.stderr);
                return Some(shorten(&format!("the credential plugin failed ({}): {}", out.status, said.trim())));
            }
            Some(AuthError::AuthExecParse(_)) => {
                return Some("the credential plugin's output is no ExecCredential".to_owned());
            }
            _ => error = present.source(),
        }
    }
    None
}

/// An error with its reasons, each once, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(inner) = reason {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        reason = inner.source();
    }
    shorten(&text)
}

/// On one line and of bounded length: the server's texts may hold anything.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_right_is_named_and_credentials_are_told_from_rights() {
        let message = "services is forbidden: User \"x\" cannot list resource \"services\" in API group \"\"";
        let status = Status { message: message.to_owned(), ..Status::default() };
        let forbidden = Fault::status("list services", 403, Some(&status));
        assert!(forbidden.to_string().starts_with("may not list services: services is forbidden"), "{forbidden}");
        assert!(forbidden.hint.contains("rbac.yaml"));
        let expired = Fault::status("watch nodes", 401, None);
        assert!(expired.to_string().starts_with("may not watch nodes: the API server does not accept"), "{expired}");
        assert_eq!((forbidden.then, expired.then), (Then::Resume, Then::Renew));
        assert_eq!(Fault::status("watch nodes", 410, None).then, Then::Relist);
    }

    #[test]
    fn what_a_credential_plugin_prints_is_not_repeated() {
        let output = std::process::Output {
            status: std::os::unix::process::ExitStatusExt::from_raw(256),
            stdout: b"{\"token\": \"secret\"}".to_vec(),
            stderr: b"please log in first\n".to_vec(),
        };
        let error = kube::Error::Auth(AuthError::AuthExecRun { cmd: "plugin".to_owned(), out: Box::new(output) });
        let fault = Fault::configuration(&error).to_string();
        assert!(fault.contains("failed (exit status: 1): please log in first; check kubeconfig"), "{fault}");
        assert!(!fault.contains("secret"), "{fault}");
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_read_is_not_repeated() {
        for broken in [
            "apiVersion: v1\nusers:\n- name: a\n  user: {token: secret\n",
            "apiVersion: v1\nusers:\n- name: a\n  user: {token: secret, tokenFile: [1]}\n",
            "apiVersion: v1\nusers:\n- name: a\n  user:\n    token: [secret]\n",
        ] {
            let error = kube::config::Kubeconfig::from_yaml(broken).unwrap_err();
            let fault = Fault::configuration(&error).to_string();
            assert!(!fault.contains("secret") && fault.contains("check kubeconfig"), "{fault}");
        }
    }

    #[test]
    fn what_a_server_says_is_one_short_line() {
        let status = Status { message: "a\nb\u{1b}[31m".repeat(1_000), ..Status::default() };
        let fault = Fault::status("list nodes", 500, Some(&status)).to_string();
        assert!(fault.chars().count() < 600 && !fault.contains(['\n', '\u{1b}']), "{fault}");
    }
}
