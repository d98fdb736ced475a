//! One frontend of v1: its rule as one router or two, and its middlewares in the order in which v1 ran them.

use super::{Context, Translation, auth, backend, backend::Shared, fields::Fields, headers, rule};
use crate::traefik::{
    Problem, normalize,
    value::{is_duration, list},
};

/// What all frontends of a service have in common.
pub(super) struct Builder<'a> {
    pub(super) context: Context<'a>,
    pub(super) shared: &'a Shared,
    /// The service's name in v3.
    pub(super) service: String,
    pub(super) out: &'a mut Translation,
}

/// Routers that differ in their entry points: what ends TLS cannot be the same router as what does not.
struct Group {
    suffix: &'static str,
    entry_points: Vec<String>,
    tls: Option<bool>,
}

/// A middleware with what v1 knew of the place where it works.
struct Step {
    name: String,
    /// A redirect to TLS (`true`) or away from it, which v1 did not apply where it leads to.
    leads_to_tls: Option<bool>,
}

impl Builder<'_> {
    /// Takes the keys of the frontend that v1 called `name`. With a rule of its own in v3, the router takes only what goes
    /// with it.
    pub(super) fn frontend(&mut self, name: &str, mut fields: Fields<'_>) {
        let router = &normalize(name);
        let has_native_rule = self.context.has(&format!("http.routers.{router}.rule"));
        let first = fields.first().map_or("traefik.enable", |field| field.key).to_owned();
        let text = fields.take("rule");
        let mut steps = Vec::new();
        let mut written = None;
        match (text, has_native_rule) {
            (Some(field), true) => {
                self.out.warn(field.key, "the rule of v3 beside it counts", "remove one of them");
            }
            (None, true) => {}
            // Its author may mean those, and what protects a router must not miss it.
            (None, false) if self.context.has("http.routers.") => {
                let what = "the routers of v3 have other names, so it is not clear which one this is for";
                self.out.error(&first, what, "write the v3 key, or add traefik.frontend.rule");
            }
            (text, false) => {
                let default = "Host:{{.ServiceName}}.{{.Domain}}";
                let (text, key) = text.map_or((default, first.as_str()), |field| (field.value, field.key));
                match rule::translate(text, name, self.context.domain) {
                    Ok(found) => {
                        if found.rule.is_none() {
                            let what = "the rule only changes requests, so it takes every one, as in v1";
                            self.out.warn(key, what, "add Host or Path");
                        }
                        self.changes(router, key, &found.changes, &mut steps);
                        written = Some((found.rule, found.length, key.to_owned()));
                    }
                    Err(what) => {
                        let hint = "write traefik.http.routers.<name>.rule, or set traefikDomain for the default rule";
                        self.out.error(key, what, hint);
                    }
                }
            }
        }
        self.middlewares(router, &mut fields, &mut steps);
        let priority = fields.take("priority");
        let chosen = priority.and_then(|field| match field.value.parse::<i64>() {
            Ok(number) => (number > 0).then(|| (number, field.key.to_owned())),
            Err(_) => {
                self.out.error(field.key, format!("{:?} is no integer", field.value), "write an integer");
                None
            }
        });
        let entry_points = fields.take("entrypoints");
        let groups = self.groups(entry_points.map_or("", |field| field.value));
        let entry_key = entry_points.map_or("", |field| field.key);
        if let Some(field) = fields.take("passhostheader")
            && let Some(is_passed) = field.bool(self.out)
        {
            self.pass_host(is_passed, field.key);
        }
        if let Some(field) = fields.take("passtlscert")
            && field.bool(self.out) == Some(true)
        {
            let what = "v3 does not use a client's certificate towards a server; nothing is passed";
            self.out.warn(field.key, what, "use passTLSClientCert to pass it in a header");
        }
        fields.finish(self.out);
        if has_native_rule && groups.len() > 1 {
            let what = "entry points with and without TLS need two routers, and the rule of v3 is one";
            self.out.error(entry_key, what, "write entrypoints and tls of v3");
        }
        for group in groups {
            let at = format!("http.routers.{router}{}", group.suffix);
            if let Some((rule, length, key)) = &written {
                // Modifiers alone take every request, as in v1.
                let rule = rule.as_deref().unwrap_or("PathPrefix(`/`)");
                self.out.pair(format!("{at}.rule"), rule, key);
                // v3 ranks by the length of its own text, which would turn the order round.
                let (number, key) =
                    chosen.clone().unwrap_or_else(|| (i64::try_from(*length).unwrap_or(1), key.clone()));
                self.out.pair(format!("{at}.priority"), number, &key);
            } else if let Some((number, key)) = &chosen {
                self.out.pair(format!("{at}.priority"), number, key);
            }
            if !group.entry_points.is_empty() {
                self.out.pair(format!("{at}.entrypoints"), group.entry_points.join(","), entry_key);
            }
            if let Some(tls) = group.tls {
                self.out.pair(format!("{at}.tls"), tls, entry_key);
            }
            let applies = |step: &&Step| step.leads_to_tls.is_none() || step.leads_to_tls != group.tls;
            let names: Vec<_> = steps.iter().filter(applies).map(|step| step.name.as_str()).collect();
            if !names.is_empty() {
                let from = self.origins(&names);
                self.out.pair(format!("{at}.middlewares"), names.join(","), &from);
            }
        }
    }

    /// The first key of v1 behind each of these middlewares.
    fn origins(&self, middlewares: &[&str]) -> String {
        let mut found: Vec<&str> = Vec::new();
        for name in middlewares {
            let prefix = format!("http.middlewares.{name}.");
            let pair = self.out.pairs.iter().find(|pair| pair.key.starts_with(&prefix));
            found.extend(pair.map(|pair| pair.from.as_str()).filter(|from| !found.contains(from)));
        }
        found.join(", ")
    }

    /// v1 kept the frontend with the default rule beside named ones.
    pub(super) fn default_beside_segments(&mut self) {
        if self.context.domain.is_empty() {
            let what = "v1 also had the default rule beside named frontends; it is left out, the domain is not known";
            self.out.warnings.push(Problem::new("traefik.frontends", what, "set traefikDomain if it is still used"));
        } else {
            self.frontend(self.context.service, Fields::default());
        }
    }

    fn changes(&mut self, router: &str, key: &str, changes: &rule::Changes, steps: &mut Vec<Step>) {
        let out = &mut *self.out;
        let mut step = |kind: &str, options: &[(&str, String)]| {
            let name = format!("{router}-{}", kind.to_ascii_lowercase());
            for (option, value) in options {
                out.pair(format!("http.middlewares.{name}.{kind}.{option}"), value, key);
            }
            steps.push(Step { name, leads_to_tls: None });
        };
        if !changes.strip_regex.is_empty() {
            step("stripprefixregex", &[("regex", changes.strip_regex.join(","))]);
        }
        if !changes.strip.is_empty() {
            step("stripprefix", &[("prefixes", changes.strip.join(","))]);
        }
        if let Some(prefix) = &changes.add_prefix {
            step("addprefix", &[("prefix", prefix.clone())]);
        }
        if let Some((regex, replacement)) = &changes.replace_path_regex {
            step("replacepathregex", &[("regex", regex.clone()), ("replacement", replacement.clone())]);
        }
        if let Some(path) = &changes.replace_path {
            step("replacepath", &[("path", path.clone())]);
        }
    }

    /// v1's order: error pages, addresses, redirect, headers, certificate, authentication; then what protects the backend.
    fn middlewares(&mut self, router: &str, fields: &mut Fields<'_>, steps: &mut Vec<Step>) {
        let plain = |name: String| Step { name, leads_to_tls: None };
        self.errors(router, fields, steps);
        let has_depth = self.context.has(&format!("http.middlewares.{router}-whitelist.ipallowlist.ipstrategy"));
        steps.extend(auth::white_list(fields, router, has_depth, self.out).map(plain));
        self.redirect(router, fields, steps);
        steps.extend(headers::headers(fields, router, self.out).into_iter().map(plain));
        self.certificate(router, fields, steps);
        steps.extend(auth::auth(fields, router, self.out).map(plain));
        steps.extend(self.shared.iter().map(|(name, _)| plain(name.clone())));
        self.rate_limits(router, fields, steps);
    }

    fn errors(&mut self, router: &str, fields: &mut Fields<'_>, steps: &mut Vec<Step>) {
        let mut pages = fields.below("errors.");
        for page in pages.groups() {
            let mut fields = pages.below(&format!("{page}."));
            let Some(first) = fields.first() else { continue };
            let name = format!("{router}-errors-{}", normalize(&page));
            let at = format!("http.middlewares.{name}.errors");
            let (status, service, query) = (fields.take("status"), fields.take("backend"), fields.take("query"));
            fields.finish(self.out);
            let (Some(status), Some(service), Some(query)) = (status, service, query) else {
                self.out.error(first.key, "an error page needs status, backend and query", "add what lacks");
                continue;
            };
            // v1 put `backend-` before the service's name.
            let of = normalize(service.value.strip_prefix("backend-").unwrap_or(service.value));
            let is_own = of.eq_ignore_ascii_case(&normalize(self.context.service));
            self.out.pair(format!("{at}.status"), status.value, status.key);
            self.out.pair(format!("{at}.service"), if is_own { &self.service } else { &of }, service.key);
            self.out.pair(format!("{at}.query"), query.value, query.key);
            steps.push(Step { name, leads_to_tls: None });
        }
        pages.finish(self.out);
    }

    fn redirect(&mut self, router: &str, fields: &mut Fields<'_>, steps: &mut Vec<Step>) {
        let mut redirect = fields.below("redirect.");
        let Some(first) = redirect.first() else { return };
        let name = format!("{router}-redirect");
        let permanent = redirect.take("permanent");
        let (entry_point, regex, replacement) =
            (redirect.take("entrypoint"), redirect.take("regex"), redirect.take("replacement"));
        redirect.finish(self.out);
        let (kind, leads_to_tls) = match (entry_point, regex, replacement) {
            (Some(field), None, None) => {
                let known = self.context.entry_points.iter().find(|it| it.old == field.value);
                let Some(target) = known else {
                    let what = format!("where the entry point {:?} of v1 leads is not known", field.value);
                    return self.out.error(field.key, what, "name it in traefikEntryPoints");
                };
                let scheme = if target.is_tls { "https" } else { "http" };
                self.out.pair(format!("http.middlewares.{name}.redirectscheme.scheme"), scheme, field.key);
                ("redirectscheme", Some(target.is_tls))
            }
            (None, Some(regex), Some(replacement)) => {
                let at = format!("http.middlewares.{name}.redirectregex");
                self.out.pair(format!("{at}.regex"), regex.value, regex.key);
                self.out.pair(format!("{at}.replacement"), replacement.value, replacement.key);
                ("redirectregex", None)
            }
            _ => {
                let what = "a redirect is an entry point, or a regex with a replacement";
                return self.out.error(first.key, what, "keep one of them");
            }
        };
        if let Some(field) = permanent
            && let Some(permanent) = field.bool(self.out)
        {
            self.out.pair(format!("http.middlewares.{name}.{kind}.permanent"), permanent, field.key);
        }
        steps.push(Step { name, leads_to_tls });
    }

    fn certificate(&mut self, router: &str, fields: &mut Fields<'_>, steps: &mut Vec<Step>) {
        let mut certificate = fields.below("passtlsclientcert.");
        let Some(first) = certificate.first() else { return };
        let name = format!("{router}-certificate");
        let at = format!("http.middlewares.{name}.passtlsclientcert");
        if let Some(field) = certificate.take("pem") {
            self.out.pair(format!("{at}.pem"), field.value, field.key);
        }
        let infos = certificate.below("infos.");
        if let Some(first) = infos.first() {
            let what = "v3 calls the header X-Forwarded-Tls-Client-Cert-Info, without an s, and encodes it otherwise";
            self.out.warn(first.key, what, "look at what reads it");
        }
        // The same words in v3, which are looked at when the pairs are read back.
        for (name, field) in infos.into_all() {
            self.out.pair(format!("{at}.info.{name}"), field.value, field.key);
        }
        certificate.finish(self.out);
        if self.out.pairs.iter().any(|pair| pair.key.starts_with(&at)) {
            steps.push(Step { name, leads_to_tls: None });
        } else {
            self.out.error(first.key, "nothing of the certificate is passed", "add pem or infos");
        }
    }

    fn rate_limits(&mut self, router: &str, fields: &mut Fields<'_>, steps: &mut Vec<Step>) {
        let mut limits = fields.below("ratelimit.");
        let Some(first) = limits.first() else { return };
        let extractor = limits.take("extractorfunc");
        let mut sets = limits.below("rateset.");
        limits.finish(self.out);
        let names = sets.groups();
        let (Some(extractor), false) = (extractor, names.is_empty()) else {
            self.out.error(first.key, "a rate limit needs extractorFunc and a rateSet", "add what lacks");
            return;
        };
        for set in names {
            let mut fields = sets.below(&format!("{set}."));
            let Some(first) = fields.first() else { continue };
            let name = format!("{router}-ratelimit-{}", normalize(&set));
            let at = format!("http.middlewares.{name}.ratelimit");
            let (period, average, burst) = (fields.take("period"), fields.take("average"), fields.take("burst"));
            fields.finish(self.out);
            let (Some(period), Some(average), Some(burst)) = (period, average, burst) else {
                self.out.error(first.key, "a rate set needs period, average and burst", "add what lacks");
                continue;
            };
            if !is_duration(period.value) {
                self.out.error(period.key, format!("{:?} is no duration", period.value), "write seconds, or 1m30s");
            }
            self.out.pair(format!("{at}.period"), period.value, period.key);
            for (option, field) in [("average", average), ("burst", burst)] {
                match field.count(self.out) {
                    // No limit at all in v3.
                    Some(0) => self.out.error(field.key, "0 is no limit", "write 1 or more"),
                    Some(number) => self.out.pair(format!("{at}.{option}"), number, field.key),
                    None => {}
                }
            }
            backend::source(&at, extractor.value, extractor.key, self.out);
            steps.push(Step { name, leads_to_tls: None });
        }
        sets.finish(self.out);
    }

    /// Entry points by what they do with TLS; one group without names if none are named.
    fn groups(&self, text: &str) -> Vec<Group> {
        let mut found: Vec<Group> = Vec::new();
        for old in list(text) {
            let known = self.context.entry_points.iter().find(|it| it.old == old);
            let (name, tls) = known.map_or((old.clone(), None), |it| (it.name.clone(), Some(it.is_tls)));
            match found.iter_mut().find(|group| group.tls == tls) {
                Some(group) => group.entry_points.push(name),
                None => found.push(Group { suffix: "", entry_points: vec![name], tls }),
            }
        }
        if found.is_empty() {
            found.push(Group { suffix: "", entry_points: Vec::new(), tls: None });
        }
        found.sort_by_key(|group| match group.tls {
            Some(false) => 0,
            Some(true) => 1,
            None => 2,
        });
        for group in found.iter_mut().skip(1) {
            group.suffix = if group.tls == Some(true) { "-tls" } else { "-more" };
        }
        found
    }

    /// One service has one answer in v3.
    fn pass_host(&mut self, is_passed: bool, key: &str) {
        let pair = format!("http.services.{}.loadbalancer.passhostheader", self.service);
        match self.out.pairs.iter().find(|it| it.key == pair) {
            Some(other) if other.value != is_passed.to_string() => {
                self.out.error(
                    key,
                    "another frontend says otherwise, and v3 has one answer for the service",
                    "say the same",
                );
            }
            Some(_) => {}
            None => self.out.pair(pair, is_passed, key),
        }
    }
}
