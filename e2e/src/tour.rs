//! The demo's tour: each stop is one request, printed as a `curl` line with its answer, and proven by `demo --check`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::world::World;

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

/// A GET that is refused unless a stop says otherwise.
const REFUSED: Stop = Stop {
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

/// All stops, in the order in which they are shown.
pub const STOPS: [Stop; 11] = [
    Stop {
        title: "web reads from api",
        why: "policy/api.yaml lets the source web GET below /v1/",
        credential: Credential::Certificate("web"),
        status: 200,
        service: Some("api"),
        ..REFUSED
    },
    Stop {
        title: "another caller",
        why: "the certificate is good, but no intention names the source billing",
        credential: Credential::Certificate("billing"),
        ..REFUSED
    },
    Stop {
        title: "a wrong path",
        why: "the first permission for web denies everything below /v1/admin",
        credential: Credential::Certificate("web"),
        path: "/v1/admin/users",
        ..REFUSED
    },
    Stop {
        title: "a wrong method",
        why: "no permission for web lets it DELETE",
        credential: Credential::Certificate("web"),
        method: "DELETE",
        path: "/v1/items/7",
        ..REFUSED
    },
    Stop { title: "no credentials", why: "nobody is known, so nobody can be allowed", status: 401, ..REFUSED },
    Stop {
        title: "a partner with an API key",
        why: "the key stands for the source partner, which may GET below /v1/reports",
        credential: Credential::ApiKey,
        path: "/v1/reports/today",
        status: 200,
        service: Some("api"),
        ..REFUSED
    },
    Stop {
        title: "a wrong API key",
        why: "only the salted hash of the key is known to the gateway, and this is not it",
        credential: Credential::WrongApiKey,
        path: "/v1/reports/today",
        status: 401,
        ..REFUSED
    },
    Stop {
        title: "forged headers of the gate",
        why: "what a client says in X-Portcullis-* headers is removed before anything looks at it",
        credential: Credential::Certificate("billing"),
        headers: &[
            ("X-Portcullis-Source", "web"),
            ("X-Portcullis-Decision", "allow"),
            ("X_Portcullis_Destination", "web"),
        ],
        ..REFUSED
    },
    Stop {
        title: "an unknown host",
        why: "no root router has that host",
        credential: Credential::Certificate("web"),
        host: "nowhere.localhost",
        path: "/",
        status: 404,
        ..REFUSED
    },
    DB_BEFORE,
    DB_BY_API,
];

/// `web` asks `db`: refused as the files lie there.
pub const DB_BEFORE: Stop = Stop {
    title: "web asks the database",
    why: "policy/db.yaml names only the source api",
    credential: Credential::Certificate("web"),
    host: "db.localhost",
    path: "/rows",
    ..REFUSED
};

/// `api` asks `db`: allowed as the files lie there.
pub const DB_BY_API: Stop = Stop {
    title: "api asks the database",
    why: "an L4 intention: every path and method",
    credential: Credential::Certificate("api"),
    host: "db.localhost",
    path: "/rows",
    status: 200,
    service: Some("db"),
    ..REFUSED
};

/// The answer to [`DB_BEFORE`] once [`Tour::edit`] has been done.
pub const DB_AFTER: Stop = Stop {
    title: "web asks the database, after the change",
    why: "the sidecar wrote a new snapshot, the plugin saw it: no reload of Traefik",
    status: 200,
    service: Some("db"),
    ..DB_BEFORE
};

/// The tour through one running world.
#[derive(Debug)]
pub struct Tour<'a> {
    world: &'a World,
    certificates: Vec<(&'static str, PathBuf)>,
}

impl<'a> Tour<'a> {
    /// Makes the callers' certificate files.
    pub fn new(world: &'a World) -> Result<Tour<'a>> {
        let names = ["web", "api", "billing"];
        let certificates: Result<Vec<_>> = names.into_iter().map(|name| Ok((name, world.caller_file(name)?))).collect();
        Ok(Tour { world, certificates: certificates? })
    }

    /// The stop as a line for a shell.
    pub fn line(&self, stop: &Stop) -> String {
        let mut words = vec![format!("curl -sS -i --cacert {}", self.world.authority_file().display())];
        match stop.credential {
            Credential::None => {}
            Credential::Certificate(name) => words.push(format!("--cert {}", self.certificate(name).display())),
            Credential::ApiKey | Credential::WrongApiKey => {
                words.push(format!("-H 'X-Api-Key: {}'", self.key(stop.credential)));
            }
        }
        if stop.method != "GET" {
            words.push(format!("-X {}", stop.method));
        }
        words.extend(stop.headers.iter().map(|(name, value)| format!("-H '{name}: {value}'")));
        words.push(format!("https://{}:{}{}", stop.host, self.world.traefik.secure().port(), stop.path));
        words.join(" ")
    }

    /// The line that explains the refusal of a wrong path on the policy files, without any gateway.
    pub fn explain(&self) -> String {
        format!(
            "{} explain -c {} --source web --destination api --path /v1/admin/users",
            self.world.parts().sidecar.display(),
            self.world.layout.configuration().display()
        )
    }

    /// The line that shows the plugin's own words on each refusal.
    pub fn denials(&self) -> String {
        format!("grep denied: {}", self.world.traefik.log_path().display())
    }

    /// The line that lets `web`, in the place of `api`, use the database.
    pub fn edit(&self) -> String {
        let file = self.world.layout.policy().join("db.yaml");
        format!("sed -i 's/Name: api,/Name: web,/' {}", file.display())
    }

    /// The line that takes [`Tour::edit`] back.
    pub fn edit_back(&self) -> String {
        let file = self.world.layout.policy().join("db.yaml");
        format!("sed -i 's/Name: web,/Name: api,/' {}", file.display())
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
        let client = match stop.credential {
            Credential::Certificate(name) => self.world.caller(name)?,
            _ => self.world.anonymous()?,
        };
        let key = self.key(stop.credential);
        let mut headers = stop.headers.to_vec();
        if !key.is_empty() {
            headers.push(("X-Api-Key", &key));
        }
        let answer = client.send(stop.method, stop.host, stop.path, &headers).await?;
        Ok(Seen { status: answer.status, service: answer.service() })
    }

    fn certificate(&self, name: &str) -> PathBuf {
        let found = self.certificates.iter().find(|(known, _)| *known == name);
        found.map(|(_, path)| path.clone()).unwrap_or_default()
    }

    fn key(&self, credential: Credential) -> String {
        match credential {
            Credential::ApiKey => self.world.api_key.clone(),
            Credential::WrongApiKey => "pcl_partner_0123456789abcdef0123456789abcdef01234567".to_owned(),
            Credential::None | Credential::Certificate(_) => String::new(),
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
