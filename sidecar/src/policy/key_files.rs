//! `JSONWebKeySet.Local.Filename`: key sets that lie on the gateway's disk, beside Consul's word of where (consul-policy §4.6).

use std::{fs::File, io::Read as _, path::Path};

use portcullis_policy::{Policy, Problem, Severity, jwt::KeySource};

/// Largest key set that is read, in bytes: some hundred keys.
const MAX_BYTES: u64 = 256 * 1024;

/// Puts the key sets of files into the policy. Without one no token of its provider passes.
pub(super) fn read(policy: &mut Policy, problems: &mut Vec<Problem>) {
    for provider in &policy.providers {
        let KeySource::File(path) = &provider.keys else { continue };
        match bytes(Path::new(path)) {
            Ok(bytes) => {
                policy.key_sets.insert(provider.name.clone(), bytes);
            }
            Err(why) => problems.push(Problem {
                severity: Severity::Error,
                at: format!("jwt-provider/{}: JSONWebKeySet.Local.Filename", provider.name),
                what: format!("{path} cannot be used ({why}); no token of the provider passes"),
                hint: "name a JWK set by its absolute path on the gateway host".to_owned(),
            }),
        }
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    if !path.is_absolute() {
        return Err("the path is relative".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy::PolicySettings;
    use serde_json::json;

    fn load(path: &str) -> (Policy, Vec<Problem>) {
        let entry = json!({"Kind": "jwt-provider", "Name": "okta", "Issuer": "i",
            "JSONWebKeySet": {"Local": {"Filename": path}}});
        let (mut policy, _) =
            portcullis_authoring::read::entries(&[("a".to_owned(), entry)], PolicySettings::default());
        let mut problems = Vec::new();
        read(&mut policy, &mut problems);
        (policy, problems)
    }

    #[test]
    fn a_key_file_is_read_and_one_that_cannot_be_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, "{\"keys\": []}").unwrap();
        let (policy, problems) = load(path.to_str().unwrap());
        assert_eq!(policy.key_sets["okta"], b"{\"keys\": []}");
        assert_eq!(problems, []);
        std::fs::write(&path, vec![b' '; 300 * 1024]).unwrap();
        for bad in [path.to_str().unwrap(), "keys.json", "/nowhere/keys.json"] {
            let (policy, problems) = load(bad);
            assert!(policy.key_sets.is_empty(), "{bad}");
            assert_eq!(problems.len(), 1, "{bad}");
        }
    }
}
