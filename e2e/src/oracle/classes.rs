//! The differences that are documented, each with a condition as narrow as can be told from policy and request.
//!
//! A difference that no class explains fails the test. A class whose direction is [`Difference::Milder`] is one where
//! Consul's documentation is on our side, or where the request never reaches the gateway's plugin either.
//! `docs/differences.md` shows this table to users; a test holds the two together.

use portcullis_policy::{Action, Verdict};

use super::compare::{Case, Difference};
use super::doubt::Doubt;
use super::mesh::Seen;
use super::ours::{Engine, gateway_uri};
use super::policy::{HeaderTest, PathRule, Permission, Rule};
use super::{target, tokens, translation};

/// A documented difference.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// Its name in reports.
    pub name: &'static str,
    /// Where the project's reference on Consul's policy (consul-policy) speaks of it.
    pub section: &'static str,
    /// Which way we may differ.
    pub directions: &'static [Difference],
    /// What Consul's sidecar does.
    pub consul: &'static str,
    /// What we do.
    pub ours: &'static str,
    /// Why.
    pub why: &'static str,
    /// Whether it explains a case. Called for differences in one of the directions only.
    holds: fn(&Case<'_>) -> bool,
}

use Difference::{Forwarded, Milder, Stricter};

/// All of them. The first that explains a difference counts it.
pub const CLASSES: &[Class] = &[
    Class {
        name: "identity",
        section: "§1.1, §1.2",
        directions: &[Stricter],
        consul: "A certificate that no intention's source covers falls to the default: under `allow`, agents, gateways, other \
            trust domains, namespaces and partitions, misspelt IDs and certificates without a URI name pass, even where `*` \
            is denied. Of several URI names, any one that an intention covers counts.",
        ours: "Refused with 401 before any intention is asked, unless the certificate has exactly one URI name, and that \
            names a service in a trust domain that is configured.",
        why: "Whoever is not known must not be better off than whoever is.",
        holds: identity,
    },
    Class {
        name: "ambiguous-path",
        section: "§6.3",
        directions: &[Stricter],
        consul: "Decides on the path after its own normalisation and forwards that.",
        ours: "Refuses with 400 a path that has more than one reading, where a rule needs the path.",
        why: "Backends disagree on what such a path means; a rule that holds for one reading only is a way around the rule.",
        holds: |case| Doubt::Path.decides(case),
    },
    Class {
        name: "unread-path",
        section: "§6.1",
        directions: &[Forwarded],
        consul: "Normalises every path and forwards the normal form.",
        ours: "Where no rule needed the path, one that has more than one reading is forwarded as it came.",
        why: "The verdict did not depend on it, and a changed path could be another resource.",
        holds: |case| target::is_ambiguous(&case.ask.target),
    },
    Class {
        name: "escape-case",
        section: "§3.3",
        directions: &[Stricter, Milder],
        consul: "Compares the text of a rule with the path as it was sent: `/%c3%a9` and `/%C3%A9` are two rules.",
        ours: "The digits of escapes are compared without case. A regex that tells the cases apart is in doubt: 400.",
        why: "Both spell one path, and Traefik may have changed the case before policy sees it.",
        holds: escape_case,
    },
    Class {
        name: "alias-header",
        section: "§3.5",
        directions: &[Stricter],
        consul: "`X_Role` and `X.Role` are other headers than `X-Role`.",
        ours: "A request with such a header is refused with 400 where a rule needs the header that it is taken for.",
        why: "Backends behind CGI, WSGI and the like see one name for all of them.",
        holds: |case| Doubt::Alias.decides(case),
    },
    Class {
        name: "method-override",
        section: "§3.2",
        directions: &[Stricter],
        consul: "Compares the method of the request line.",
        ours: "A request that asks to be taken for one of another method (`X-HTTP-Method-Override`, `_method` in the query, \
            and the like) is refused with 400 where a rule needs the method.",
        why: "Frameworks honour it, after the rules were asked.",
        holds: |case| Doubt::Method.decides(case),
    },
    Class {
        name: "header-readings",
        section: "§3.5, §6.2",
        directions: &[Stricter],
        consul: "Joins the values of a repeated header by `,` and compares that, leaving empty ones out in some headers and \
            not in others; a regex sees a value that is not UTF-8 as bytes.",
        ours: "Where one of the values, or another way to join them, gives another answer than all joined, or a regex is asked \
            about what is not UTF-8, the request is refused with 400.",
        why: "Some backends take the first of several values and some the last (CVE-2026-26308).",
        holds: |case| Doubt::Readings.decides(case),
    },
    Class {
        name: "jwt-under-default-allow",
        section: "§4.4",
        directions: &[Stricter],
        consul: "With the default `allow`, a requirement on tokens is not enforced where the rule allows, and where it denies, \
            only callers with a good token are denied.",
        ours: "An allow needs the token under either default, and a deny denies with and without.",
        why: "Consul's documentation asks for the default `deny` with tokens; what is written is enforced either way.",
        holds: |case| {
            case.world.default == Action::Allow
                && translation::requires_token(case)
                && translation::explains(case, true)
        },
    },
    Class {
        name: "forged-payload",
        section: "§4.6",
        directions: &[Forwarded],
        consul: "A header of the name that a provider forwards payloads in is kept as the caller sent it, unless a valid token \
            takes its place.",
        ours: "Always removed.",
        why: "The backend takes it for a verified token's.",
        holds: tokens::is_forged_payload,
    },
    Class {
        name: "unasked-token",
        section: "§4.6",
        directions: &[Forwarded],
        consul: "A valid token is taken out of every request to a service, and its payload forwarded, if any intention of the \
            service asks for its provider; the query is written anew, its parameters in another order.",
        ours: "Done if the rule that decides asks for the provider.",
        why: "What no rule asks for is not looked for.",
        holds: tokens::is_left_alone,
    },
    Class {
        name: "several-tokens",
        section: "§4.6",
        directions: &[Stricter, Forwarded],
        consul: "Of several tokens for one provider, one that is valid is enough, and each that is adds a payload header.",
        ours: "All must be valid, a claim is what all of them say, and the payload of the first is forwarded.",
        why: "Who holds two tokens must not pick the better half of each.",
        holds: |case| tokens::count(case.ask) > 1,
    },
    Class {
        name: "other-keys-kind",
        section: "§4.6",
        directions: &[Milder, Forwarded],
        consul: "A token without `kid` may find none of its provider's keys if one of them is Ed25519 without `alg`.",
        ours: "Every key of the token's kind is tried.",
        why: "Its key is among them.",
        holds: |case| tokens::meets_key_of_other_kind(case.world, case.ask),
    },
    Class {
        name: "forwarded-query",
        section: "§4.6",
        directions: &[Forwarded],
        consul: "`Forward` of the last header location holds for all locations of a provider.",
        ours: "It holds for its own location: a token in the query is taken out.",
        why: "It is written there.",
        holds: tokens::is_forwarded_as_header,
    },
    Class {
        name: "list-claim",
        section: "§4.1",
        directions: &[Milder],
        consul: "A claim that is a list never has the value that is asked for.",
        ours: "A list has each of its texts as a value, as Consul documents it.",
        why: "Groups and roles are lists in most tokens.",
        holds: tokens::has_list_claim,
    },
    Class {
        name: "no-crit",
        section: "§4.6",
        directions: &[Stricter],
        consul: "Ignores `crit` in a token's header.",
        ours: "Refuses a token with it.",
        why: "It says that who does not understand it must refuse the token (RFC 7515 §4.1.11).",
        holds: |case| case.ours.status == 401 && tokens::any_header(case.ask, |header| header.get("crit").is_some()),
    },
    Class {
        name: "clock-skew",
        section: "§4.6",
        directions: &[Stricter, Milder, Forwarded],
        consul: "Never hands `ClockSkewSeconds` to its proxies, which take 60.",
        ours: "Takes what is written, else 30, which Consul writes into the entry.",
        why: "It is what the author says.",
        holds: |case| tokens::is_within_skew(case.ask),
    },
    Class {
        name: "source-order",
        section: "§2.4",
        directions: &[Stricter, Milder],
        consul: "An intention from any source to this service (precedence 8) and one from this source to any service (6) are \
            both in force: either allow is enough when the default is `deny`, either deny when it is `allow`.",
        ours: "The intention of higher precedence decides alone, as Consul documents it and as its own \
            `/v1/connect/intentions/check` answers.",
        why: "The order is what authors rely on.",
        holds: source_order,
    },
    Class {
        name: "name-as-pattern",
        section: "§1.1",
        directions: &[Stricter, Milder],
        consul: "The name of a source is put into a regular expression as it is, so that `a.b` covers the caller `axb`.",
        ours: "Names are compared whole and literally.",
        why: "`axb` is another service.",
        holds: name_as_pattern,
    },
    Class {
        name: "not-http",
        section: "§3.2, §3.3",
        directions: &[Milder],
        consul: "Refuses unknown methods, raw control or non-ASCII bytes, `#` and `%00` with 400 before any rule is asked.",
        ours: "Where no rule needs the path or the method, the verdict does not depend on them; the gateway's own HTTP server \
            refuses or escapes what is not HTTP.",
        why: "What is not HTTP is the server's business.",
        holds: not_http,
    },
];

impl Class {
    /// The class as a row of the user's table.
    pub fn row(&self) -> String {
        let mut directions: Vec<_> = self.directions.iter().map(|it| it.as_str()).collect();
        directions.sort_unstable();
        format!("| `{}` | {} | {} | {} | {} |", self.name, directions.join(", "), self.consul, self.ours, self.why)
    }

    /// The first class that explains a case with a difference.
    pub fn of(case: &Case<'_>, difference: Difference) -> Option<&'static Class> {
        CLASSES.iter().find(|it| it.directions.contains(&difference) && (it.holds)(case))
    }
}

pub(super) fn sidecars_verdict(case: &Case<'_>) -> Verdict {
    match case.seen {
        Seen::Passed(_) => Verdict::Allow,
        Seen::Refused(_) | Seen::Redirected(_) => Verdict::Deny,
    }
}

fn identity(case: &Case<'_>) -> bool {
    case.ours.status == 401 && case.ours.rule == "credential" && case.caller.service.is_none()
}

/// The sidecar does what we would do without the criteria whose escapes have letters in another case than the request's.
fn escape_case(case: &Case<'_>) -> bool {
    let sent = match case.seen {
        Seen::Passed(arrived) => arrived.target.clone(),
        Seen::Refused(_) | Seen::Redirected(_) => gateway_uri(&case.ask.target),
    };
    if !target::has_lettered_escape(sent.as_bytes()) {
        return false;
    }
    let upper = target::with_upper_escapes(&sent);
    if case.ours.status == 400 {
        return case.ours.reason.contains("hexadecimal");
    }
    // A text that meets the path only if case does not count meets nothing there.
    let other = |text: &str| {
        target::has_lettered_escape(text.as_bytes())
            && !sent.contains(text)
            && upper.contains(&target::with_upper_escapes(text))
    };
    let mut world = case.world.clone();
    let mut changed = false;
    for source in world.entries.iter_mut().flat_map(|it| &mut it.sources) {
        let Rule::Permissions(permissions) = &mut source.rule else { continue };
        for Permission { path, headers, .. } in permissions {
            if let Some(PathRule::Exact(text) | PathRule::Prefix(text)) = path
                && other(text)
            {
                *path = Some(PathRule::Exact("/\u{1}".to_owned()));
                changed = true;
            }
            for header in headers.iter_mut().filter(|it| it.name == ":path") {
                if let HeaderTest::Text(_, text) = &mut header.test
                    && other(text)
                {
                    "\u{1}".clone_into(text);
                    changed = true;
                }
            }
        }
    }
    let under = || Some(Engine::of(&world, case.trust_domain).ok()?.decide(case.ask, case.caller).verdict);
    changed && under() == Some(sidecars_verdict(case))
}

fn source_order(case: &Case<'_>) -> bool {
    translation::is_out_of_order(case) && translation::explains(case, false)
}

fn name_as_pattern(case: &Case<'_>) -> bool {
    // Where what the other intention says is in doubt with us, it is certain there.
    let known = translation::explains(case, true);
    translation::is_covered_by_pattern(case) && known
}

fn not_http(case: &Case<'_>) -> bool {
    matches!(case.seen, Seen::Refused(0 | 400 | 404))
        && (!target::is_known_method(&case.ask.method) || target::is_not_http(&case.ask.target))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file that users read; rewritten with `PORTCULLIS_BLESS=1`.
    const DOCUMENT: &str = "docs/differences.md";
    const HEAD: &str = "| name | we are | Consul's sidecar | Portcullis | why |\n|---|---|---|---|---|\n";

    #[test]
    fn the_users_table_shows_every_class_in_order_and_nothing_else() {
        let path = crate::parts::root().join(DOCUMENT);
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(HEAD).unwrap();
        let after = rest.lines().skip_while(|line| line.starts_with('|')).map(|line| format!("{line}\n"));
        let rows: String = CLASSES.iter().map(|it| it.row() + "\n").collect();
        let wanted = format!("{before}{HEAD}{rows}{}", after.collect::<String>());
        if std::env::var_os("PORTCULLIS_BLESS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        assert!(
            text == wanted || std::env::var_os("PORTCULLIS_BLESS").is_some(),
            "{DOCUMENT} is not what the classes say"
        );
    }

    #[test]
    fn names_are_unique_and_whoever_is_milder_is_listed_here() {
        let mut names: Vec<_> = CLASSES.iter().map(|it| it.name).collect();
        let milder: Vec<_> = CLASSES.iter().filter(|it| it.directions.contains(&Milder)).map(|it| it.name).collect();
        assert_eq!(
            milder,
            [
                "escape-case",
                "other-keys-kind",
                "list-claim",
                "clock-skew",
                "source-order",
                "name-as-pattern",
                "not-http"
            ]
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CLASSES.len());
    }
}
