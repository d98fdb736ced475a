//! Policies to get around, each with what it forbids in plain words, and requests to begin from.

use anyhow::Result;
use portcullis_authoring::cases::CaseFile;
use serde_json::{Value, json};

use crate::certificates::{TRUST_DOMAIN, spiffe};
use crate::mutation::readings;
use crate::wire::Head;

/// Who guards the backend.
#[derive(Debug, Clone)]
pub enum Guard {
    /// The plugin, with these permissions for the caller.
    Permissions(Value),
    /// The same, under a mesh that says how paths are normalised.
    Normalized(Value, Value),
    /// Nobody but Traefik's router: the rule that a request has to match. To see that the fuzzer finds something.
    Rule(&'static str),
}

/// What no request may be, in any reading.
#[derive(Debug, Clone, Copy)]
pub enum Forbidden {
    /// A request for a path that begins like this.
    PathPrefix(&'static str),
    /// A request for this path.
    Path(&'static str),
    /// A request for a path that does not begin like this.
    PathOutside(&'static str),
    /// A request with this method.
    Method(&'static str),
    /// A request with another method than these.
    MethodOutside(&'static [&'static str]),
    /// Both at once.
    MethodOn(&'static str, &'static str),
    /// A request with this value in this header.
    Header(&'static str, &'static str),
    /// A request with this text, in lower case, anywhere in this header, whatever the case.
    HeaderContains(&'static str, &'static str),
    /// A request in which this header has not just this value.
    HeaderOutside(&'static str, &'static str),
}

/// A policy to get around.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// A DNS label.
    pub name: &'static str,
    /// Who guards.
    pub guard: Guard,
    /// Whether a request that no permission speaks of passes.
    pub default: &'static str,
    /// What must not arrive.
    pub forbidden: Forbidden,
    /// Requests that are allowed.
    pub harmless: Vec<Head>,
    /// Requests that are forbidden.
    pub targets: Vec<Head>,
}

/// The caller in every scenario.
pub const CALLER: &str = "web";
/// The guarded service.
pub const DESTINATION: &str = "api";

impl Forbidden {
    /// The reading of the request that is forbidden, if there is one.
    pub fn reading(self, head: &Head) -> Option<String> {
        let path = |is: &dyn Fn(&[u8]) -> bool| readings::paths(&head.target).into_iter().find(|path| is(path));
        let method = |is: &dyn Fn(&[u8]) -> bool| readings::methods(head).into_iter().find(|method| is(method));
        let value = |name: &str, is: &dyn Fn(&[u8]) -> bool| readings::values(head, name).into_iter().find(|it| is(it));
        let found = match self {
            Self::PathPrefix(prefix) => path(&|it| it.starts_with(prefix.as_bytes())),
            Self::Path(whole) => path(&|it| it == whole.as_bytes()),
            Self::PathOutside(prefix) => path(&|it| !it.starts_with(prefix.as_bytes())),
            Self::Method(name) => method(&|it| it == name.as_bytes()),
            Self::MethodOutside(names) => method(&|it| !names.iter().any(|name| it == name.as_bytes())),
            Self::MethodOn(name, prefix) => method(&|it| it == name.as_bytes()).and_then(|method| {
                path(&|it| it.starts_with(prefix.as_bytes())).map(|path| [method, path].join(&b' '))
            }),
            Self::Header(name, text) => value(name, &|it| it == text.as_bytes()),
            Self::HeaderContains(name, text) => readings::elements(head, name).into_iter().find(|it| {
                let it = it.to_ascii_lowercase();
                it.windows(text.len()).any(|window| window == text.as_bytes())
            }),
            Self::HeaderOutside(name, text) => match readings::values(head, name) {
                values if values.is_empty() => Some(b"(none)".to_vec()),
                values => values.into_iter().find(|it| it != text.as_bytes()),
            },
        };
        found.map(|reading| reading.escape_ascii().to_string())
    }
}

impl Scenario {
    /// The policy as a policy test with one request; none where Traefik alone guards.
    pub fn policy(&self) -> Result<Option<CaseFile>> {
        let Some(entries) = self.entries() else { return Ok(None) };
        let file = json!({
            "default": self.default, "trustDomain": TRUST_DOMAIN, "policy": entries,
            "requests": [{"source": spiffe(CALLER), "destination": DESTINATION, "expect": "deny"}],
        });
        Ok(Some(serde_json::from_value(file)?))
    }

    fn entries(&self) -> Option<Vec<Value>> {
        let intention = |permissions: &Value| {
            let source = json!({"Name": CALLER, "Permissions": permissions});
            json!({"Kind": "service-intentions", "Name": DESTINATION, "Sources": [source]})
        };
        match &self.guard {
            Guard::Permissions(permissions) => Some(vec![intention(permissions)]),
            Guard::Normalized(permissions, rules) => {
                let mesh = json!({"Kind": "mesh", "HTTP": {"Incoming": {"RequestNormalization": rules}}});
                Some(vec![intention(permissions), mesh])
            }
            Guard::Rule(_) => None,
        }
    }

    /// The router's rule beside the host.
    pub fn rule(&self) -> &'static str {
        match self.guard {
            Guard::Permissions(_) | Guard::Normalized(..) => "",
            Guard::Rule(rule) => rule,
        }
    }

    /// A failing request as a file for `testdata/bypass`.
    pub fn case(&self, head: &Head, reading: &str, seed: u64) -> String {
        let text = |bytes: &[u8]| json!(bytes.iter().map(|byte| char::from(*byte)).collect::<String>()).to_string();
        let entries = json!(self.entries().unwrap_or_default());
        let lines: Vec<String> = head.lines.iter().map(|line| text(line)).collect();
        format!(
            "# Found by the mutation fuzzer (scenario {}, seed {seed}): arrived, and can be read as {reading}\n\
             advisories: {{fuzzer-{seed}: {}}}\ndefault: {}\ntrustDomain: {TRUST_DOMAIN}\npolicy: {entries}\n\
             requests:\n  - {{source: {}, destination: {DESTINATION}, method: {}, target: {}, lines: [{}], expect: deny}}\n",
            self.name,
            json!(format!("{:?}", self.forbidden)),
            self.default,
            spiffe(CALLER),
            text(&head.method),
            text(&head.target),
            lines.join(", "),
        )
    }
}

fn get(targets: &[&str]) -> Vec<Head> {
    targets.iter().map(|target| Head::new("GET", *target)).collect()
}

/// Permissions that the plugin has to enforce in every spelling.
pub fn guarded() -> Vec<Scenario> {
    let admin = ["/admin", "/admin/users", "/admin/", "/admin?x=1", "/admin.json"];
    let elsewhere = ["/", "/public/a", "/public/a%20b?x=/admin", "/a/b.c", "/adm"];
    let outside = ["/admin", "/public/../admin", "/", "/publi", "/public/%2e%2e/admin", "/public"];
    vec![
        Scenario {
            name: "deny-prefix",
            guard: Guard::Permissions(json!([{"Action": "deny", "HTTP": {"PathPrefix": "/admin"}}])),
            default: "allow",
            forbidden: Forbidden::PathPrefix("/admin"),
            harmless: get(&elsewhere),
            targets: get(&admin),
        },
        Scenario {
            name: "deny-exact",
            guard: Guard::Permissions(json!([{"Action": "deny", "HTTP": {"PathExact": "/admin/users"}}])),
            default: "allow",
            forbidden: Forbidden::Path("/admin/users"),
            harmless: get(&["/admin/users/", "/admin", "/admin/usersx", "/"]),
            targets: get(&["/admin/users", "/admin/users?x"]),
        },
        Scenario {
            name: "allow-prefix",
            guard: Guard::Permissions(json!([{"Action": "allow", "HTTP": {"PathPrefix": "/public/"}}])),
            default: "deny",
            forbidden: Forbidden::PathOutside("/public/"),
            harmless: get(&["/public/", "/public/a/b", "/public/a%20b?x=/admin", "/public/..a"]),
            targets: get(&outside),
        },
        Scenario {
            name: "deny-then-allow",
            guard: Guard::Permissions(json!([
                {"Action": "deny", "HTTP": {"PathPrefix": "/public/secret"}},
                {"Action": "allow", "HTTP": {"PathPrefix": "/public/"}},
            ])),
            default: "deny",
            forbidden: Forbidden::PathPrefix("/public/secret"),
            harmless: get(&["/public/", "/public/secre", "/public/a/b"]),
            targets: get(&["/public/secret", "/public/a/../secret", "/public/secrets/x"]),
        },
        Scenario {
            name: "deny-unescaped",
            guard: Guard::Normalized(
                json!([
                    {"Action": "deny", "HTTP": {"PathPrefix": "/admin"}},
                    {"Action": "deny", "HTTP": {"PathPrefix": "/public/admin"}},
                ]),
                json!({"MergeSlashes": true, "PathWithEscapedSlashesAction": "UNESCAPE_AND_FORWARD"}),
            ),
            default: "allow",
            forbidden: Forbidden::PathPrefix("/admin"),
            harmless: get(&["/", "/public/a", "/public%2Fa//b", "/a%5Cb"]),
            targets: get(&["/admin", "//admin", "/%2fadmin", "/%5c/admin/users"]),
        },
        Scenario {
            name: "deny-method",
            guard: Guard::Permissions(json!([{"Action": "deny", "HTTP": {"Methods": ["DELETE"]}}])),
            default: "allow",
            forbidden: Forbidden::Method("DELETE"),
            harmless: vec![Head::new("GET", "/a"), Head::new("POST", "/a?method=DELETE"), Head::new("PURGE", "/a")],
            targets: vec![Head::new("DELETE", "/a"), Head::new("DELETE", "/a?x=1")],
        },
        Scenario {
            name: "allow-method",
            guard: Guard::Permissions(json!([{"Action": "allow", "HTTP": {"Methods": ["GET", "POST"]}}])),
            default: "deny",
            forbidden: Forbidden::MethodOutside(&["GET", "POST"]),
            harmless: vec![Head::new("GET", "/a"), Head::new("POST", "/a")],
            targets: vec![Head::new("DELETE", "/a"), Head::new("PUT", "/a"), Head::new("HEAD", "/a")],
        },
        Scenario {
            name: "deny-method-on-path",
            guard: Guard::Permissions(json!([
                {"Action": "deny", "HTTP": {"PathPrefix": "/admin", "Methods": ["DELETE", "POST"]}},
                {"Action": "allow", "HTTP": {"PathPrefix": "/"}},
            ])),
            default: "deny",
            forbidden: Forbidden::MethodOn("DELETE", "/admin"),
            harmless: vec![Head::new("DELETE", "/a"), Head::new("GET", "/admin")],
            targets: vec![Head::new("DELETE", "/admin"), Head::new("DELETE", "/admin/users")],
        },
        Scenario {
            name: "deny-pattern",
            guard: Guard::Permissions(
                json!([{"Action": "deny", "HTTP": {"PathRegex": "/files/[^/]+/secret|/admin(/.*)?"}}]),
            ),
            default: "allow",
            forbidden: Forbidden::PathPrefix("/admin/"),
            harmless: get(&["/files/a/public", "/administrators", "/x/admin", "/"]),
            targets: get(&["/admin/", "/admin/users", "/admin/a/b?c"]),
        },
        Scenario {
            name: "deny-header",
            guard: Guard::Permissions(
                json!([{"Action": "deny", "HTTP": {"Header": [{"Name": "x-role", "Exact": "admin"}]}}]),
            ),
            default: "allow",
            forbidden: Forbidden::Header("x-role", "admin"),
            harmless: vec![Head::new("GET", "/"), Head::new("GET", "/").line("X-Role: user")],
            targets: vec![Head::new("GET", "/").line("X-Role: admin"), Head::new("POST", "/a").line("x-role:admin")],
        },
        Scenario {
            name: "deny-header-part",
            guard: Guard::Permissions(json!([
                {"Action": "deny", "HTTP": {"Header": [{"Name": "x-role", "Contains": "admin", "IgnoreCase": true}]}},
            ])),
            default: "allow",
            forbidden: Forbidden::HeaderContains("x-role", "admin"),
            harmless: vec![Head::new("GET", "/"), Head::new("GET", "/").line("X-Role: user,guest")],
            targets: vec![
                Head::new("GET", "/").line("X-Role: ADMIN"),
                Head::new("GET", "/").line("x-role: user, admin"),
            ],
        },
        Scenario {
            name: "allow-header",
            guard: Guard::Permissions(
                json!([{"Action": "allow", "HTTP": {"Header": [{"Name": "x-role", "Exact": "user"}]}}]),
            ),
            default: "deny",
            forbidden: Forbidden::HeaderOutside("x-role", "user"),
            harmless: vec![Head::new("GET", "/").line("X-Role: user"), Head::new("GET", "/").line("x-role:  user ")],
            targets: vec![Head::new("GET", "/"), Head::new("GET", "/").line("X-Role: admin")],
        },
    ]
}

/// The same with Traefik's router as the only guard: each has a way around.
pub fn unguarded() -> Vec<Scenario> {
    let weak = |name: &str, weak: &'static str, rule| {
        let scenario = guarded().into_iter().find(|scenario| scenario.name == name);
        scenario.map(|scenario| Scenario { name: weak, guard: Guard::Rule(rule), ..scenario })
    };
    [
        weak("deny-prefix", "weak-prefix", "!PathPrefix(`/admin`)"),
        weak("allow-prefix", "weak-outside", "PathPrefix(`/public/`)"),
        weak("deny-method", "weak-method", "!Method(`DELETE`)"),
        weak("deny-header", "weak-header", "!Header(`X-Role`, `admin`)"),
        weak("allow-header", "weak-allow-header", "Header(`X-Role`, `user`)"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bypass::BypassFile;

    #[test]
    fn a_printed_case_can_be_committed_as_it_is() {
        for scenario in guarded() {
            let head = Head::new(b"GE\xffT".as_slice(), b"/a\\\"\0'%00\xff".as_slice()).line("X-A: b").line("\t");
            let file = BypassFile::parse("found", &scenario.case(&head, "/a\\nb: \"#", 7)).unwrap();
            assert_eq!(file.wires[0].head(&file.file.requests[0], "h").target, head.target, "{}", scenario.name);
            assert_eq!(file.wires[0].head(&file.file.requests[0], "h").method, head.method, "{}", scenario.name);
            assert!(file.file.runner("found").unwrap().problems.is_empty(), "{}", scenario.name);
        }
    }

    #[test]
    fn what_is_forbidden_is_found_in_what_is_sent_plainly_and_nothing_in_what_is_harmless() {
        for scenario in guarded() {
            for head in &scenario.harmless {
                assert_eq!(scenario.forbidden.reading(head), None, "{}: {head:?}", scenario.name);
            }
            for head in &scenario.targets {
                assert!(scenario.forbidden.reading(head).is_some(), "{}: {head:?}", scenario.name);
            }
        }
    }
}
