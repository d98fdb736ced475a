//! The demo's tour: each stop is one request, printed as a `curl` line with its answer, and proven by `demo --check`.

use anyhow::Result;

use crate::access::{Access, Credential, REFUSED, Stop};
use crate::world::World;

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
    /// How requests are made.
    pub access: Access<'a>,
}

impl<'a> Tour<'a> {
    /// Makes the callers' certificate files.
    pub fn new(world: &'a World) -> Result<Tour<'a>> {
        let callers = ["web", "api", "billing"];
        let access = Access::new(&world.authority, &world.authority_file(), world.traefik.secure(), &callers)?;
        Ok(Tour { world, access: access.with_api_key(&world.api_key) })
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
}
