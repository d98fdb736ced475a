//! Requests that are shown to people as `curl` lines, and made as they are shown.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::certificates::{Authority, Caller};
use crate::client::Client;

/// Who makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// Nobody we know.
    None,
    /// The sample caller with this name, by client certificate.
    Certificate(&'static str),
    /// The sample partner's API key.
    ApiKey,
    /// A key of the right shape with a wrong secret.
    WrongApiKey,
    /// The sample caller with this name, by client certificate, for a user with a bearer token.
    User(&'static str),
}

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Stop {
    /// One line: what it shows.
    pub title: &'static str,
    /// One line: why the answer is what it is.
    pub why: &'static str,
    /// Who asks.
    pub credential: Credential,
    /// How.
    pub method: &'static str,
    /// Which host.
    pub host: &'static str,
    /// Which path.
    pub path: &'static str,
    /// Further headers.
    pub headers: &'static [(&'static str, &'static str)],
    /// The expected status.
    pub status: u16,
    /// The sample service that has to answer; none: the gateway itself.
    pub service: Option<&'static str>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The status.
    pub status: u16,
    /// The sample service that answered.
    pub service: Option<String>,
}

/// The shape is right, the secret is nobody's.
const WRONG_API_KEY: &str = "pcl_partner_0123456789abcdef0123456789abcdef01234567";

/// A GET that is refused unless a stop says otherwise.
pub const REFUSED: Stop = Stop {
    title: "",
    why: "",
    credential: Credential::None,
    method: "GET",
    host: "api.localhost",
    path: "/v1/items",
    headers: &[],
    status: 403,
    service: None,
};

/// The way into one gateway, for everybody who asks there.
#[derive(Debug)]
pub struct Access<'a> {
    authority: &'a Authority,
    authority_file: PathBuf,
    secure: SocketAddr,
    certificates: Vec<(&'static str, PathBuf)>,
    api_key: &'a str,
    token: &'a str,
}

impl<'a> Access<'a> {
    /// To a gateway whose certificate and whose callers' this authority signs; its certificate is in a file, and the callers'
    /// are written beside it.
    pub fn new(
        authority: &'a Authority,
        authority_file: &Path,
        secure: SocketAddr,
        callers: &[&'static str],
    ) -> Result<Access<'a>> {
        let folder = authority_file.parent().context("a file without a folder")?;
        let write = |name: &&'static str| Ok((*name, authority.client(&Caller::named(name))?.write(folder, name)?));
        let certificates: Result<_> = callers.iter().map(write).collect();
        let authority_file = authority_file.to_owned();
        Ok(Access { authority, authority_file, secure, certificates: certificates?, api_key: "", token: "" })
    }

    /// With the API key of [`Credential::ApiKey`].
    #[must_use]
    pub fn with_api_key(self, api_key: &'a str) -> Access<'a> {
        Access { api_key, ..self }
    }

    /// With the bearer token of [`Credential::User`].
    #[must_use]
    pub fn with_token(self, token: &'a str) -> Access<'a> {
        Access { token, ..self }
    }

    /// The stop as a line for a shell.
    pub fn line(&self, stop: &Stop) -> String {
        let mut words = vec![format!("curl -sS -i --cacert {}", self.authority_file.display())];
        if let Some(file) = self.certificate(stop.credential) {
            words.push(format!("--cert {}", file.display()));
        }
        words.extend(self.headers(stop).iter().map(|(name, value)| format!("-H '{name}: {value}'")));
        if stop.method != "GET" {
            words.push(format!("-X {}", stop.method));
        }
        words.push(format!("https://{}:{}{}", stop.host, self.secure.port(), stop.path));
        words.join(" ")
    }

    /// Makes the stop's request: by a shell and the very line that is printed, or with our own client where there is no
    /// `curl`.
    pub async fn ask(&self, stop: &Stop, curl: bool) -> Result<Seen> {
        if curl {
            let line = self.line(stop);
            tokio::task::spawn_blocking(move || shell(&line).and_then(|output| parse(&output))).await?
        } else {
            self.ask_ourselves(stop).await
        }
    }

    async fn ask_ourselves(&self, stop: &Stop) -> Result<Seen> {
        let identity = stop.credential.caller().map(|name| self.authority.client(&Caller::named(name))).transpose()?;
        let client = Client::tls(self.secure, self.authority, identity.as_ref())?;
        let headers = self.headers(stop);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = client.send(stop.method, stop.host, stop.path, &headers).await?;
        Ok(Seen { status: answer.status, service: answer.service() })
    }

    fn certificate(&self, credential: Credential) -> Option<&Path> {
        let name = credential.caller()?;
        self.certificates.iter().find(|(known, _)| *known == name).map(|(_, path)| path.as_path())
    }

    fn headers(&self, stop: &Stop) -> Vec<(&'static str, String)> {
        let credential = match stop.credential {
            Credential::ApiKey => Some(("X-Api-Key", self.api_key.to_owned())),
            Credential::WrongApiKey => Some(("X-Api-Key", WRONG_API_KEY.to_owned())),
            Credential::User(_) => Some(("Authorization", format!("Bearer {}", self.token))),
            Credential::None | Credential::Certificate(_) => None,
        };
        credential.into_iter().chain(stop.headers.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
    }
}

impl Credential {
    /// Whose certificate is shown.
    fn caller(self) -> Option<&'static str> {
        match self {
            Credential::Certificate(name) | Credential::User(name) => Some(name),
            Credential::None | Credential::ApiKey | Credential::WrongApiKey => None,
        }
    }
}

impl Stop {
    /// The expected answer.
    pub fn expected(&self) -> Seen {
        Seen { status: self.status, service: self.service.map(ToOwned::to_owned) }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{} from {service}", self.status),
            None => write!(f, "{}", self.status),
        }
    }
}

/// Whether there is a `curl`.
pub fn has_curl() -> bool {
    let curl = Command::new("curl").arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status();
    curl.is_ok_and(|status| status.success())
}

/// Runs a line as a user's shell would; its standard output.
pub fn shell(line: &str) -> Result<String> {
    let output = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output().context("running sh")?;
    if !output.status.success() {
        anyhow::bail!("{} ({})", String::from_utf8_lossy(&output.stderr).trim_end(), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads what `curl -i` printed.
fn parse(output: &str) -> Result<Seen> {
    let status = output.split_ascii_whitespace().nth(1).and_then(|status| status.parse().ok());
    let body = output.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let service = json.as_ref().and_then(|json| json.get("service")?.as_str().map(ToOwned::to_owned));
    Ok(Seen { status: status.with_context(|| format!("no status in {output:?}"))?, service })
}
