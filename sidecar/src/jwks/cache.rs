//! The last good key sets on disk, so that a restart while an issuer is down changes nothing. Public keys are no secret, but
//! whoever writes here decides who may sign: the folder is the sidecar's alone.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use portcullis_policy::jwt::{RemoteKeys, TrustedCa};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::config::JwksConfig;
use crate::publish;

/// Largest file that is read, in bytes: a set of 256 KiB as a JSON text, and what is said of it.
const MAX_FILE: u64 = 1 << 20;
/// Most files that stay; of those that nobody uses, the oldest go first.
const MAX_FILES: usize = 400;
const ENDING: &str = ".json";

/// The folder.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    stale_for: Duration,
    /// Whether it was said that it cannot be written.
    is_broken: AtomicBool,
}

/// A file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    provider: String,
    /// Of the address and of who may vouch for it, see [`source`].
    source: String,
    /// In seconds since 1970.
    fetched: u64,
    set: String,
}

/// What a set must have come from to be used again: the address, and the authorities that vouch for it.
pub(super) fn source(remote: &RemoteKeys) -> String {
    let trusted = remote.cluster.as_ref().and_then(|cluster| cluster.trusted.as_ref());
    let (kind, what): (&str, &[u8]) = match trusted {
        None => ("", b""),
        Some(TrustedCa::Instance { certificate, .. }) => ("instance", certificate.as_bytes()),
        Some(TrustedCa::File(file)) => ("file", file.as_bytes()),
        Some(TrustedCa::Environment(name)) => ("environment", name.as_bytes()),
        Some(TrustedCa::Inline(pem)) => ("inline", pem),
    };
    let mut digest = Sha256::new();
    for part in [remote.uri.as_bytes(), kind.as_bytes(), what] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex(&digest.finalize())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

// === impl Cache ===

impl Cache {
    pub(super) fn new(config: &JwksConfig) -> Self {
        Self {
            folder: config.cache.clone().unwrap_or_default(),
            stale_for: Duration::from_secs(config.stale_for_seconds),
            is_broken: AtomicBool::new(false),
        }
    }

    pub(super) fn stale_for(&self) -> Duration {
        self.stale_for
    }

    /// What was kept of a provider's keys from this source, with its age. Not checked: the same code as for what is fetched does that.
    pub(super) fn read(&self, provider: &str, source: &str) -> Option<(Vec<u8>, Duration)> {
        self.is_private().ok()?;
        let mut bytes = Vec::new();
        File::open(self.file(provider)).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        let is_its = entry.provider == provider && entry.source == source;
        // From the future: the clock was set back since. How long ago that was is not known.
        let age = unix_seconds().saturating_sub(entry.fetched);
        is_its.then(|| (entry.set.into_bytes(), Duration::from_secs(age)))
    }

    /// Keeps a set that was just fetched. A folder that cannot be written is said once.
    pub(super) fn write(&self, provider: &str, source: &str, set: &[u8]) {
        let Ok(set) = String::from_utf8(set.to_vec()) else { return };
        let (provider, source) = (provider.to_owned(), source.to_owned());
        let file = self.file(&provider);
        let entry = Entry { provider, source, fetched: unix_seconds(), set };
        let written = self.prepare().and_then(|()| {
            let bytes = serde_json::to_vec(&entry).map_err(io::Error::other)?;
            publish::replace(&file, &bytes, 0o600).map_err(io::Error::other)
        });
        match written {
            Ok(()) => {
                if self.is_broken.swap(false, Ordering::Relaxed) {
                    tracing::info!("fetched key sets can be kept again");
                }
            }
            Err(error) => {
                if !self.is_broken.swap(true, Ordering::Relaxed) {
                    let folder = self.folder.display();
                    tracing::warn!(%folder, %error, "fetched key sets cannot be kept; a restart has to fetch them first");
                }
            }
        }
    }

    /// Removes what no provider uses any more: too old, or too much.
    pub(super) fn tidy<'a>(&self, providers: impl Iterator<Item = &'a str>) {
        let used: HashSet<PathBuf> = providers.map(|provider| self.file(provider)).collect();
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let now = SystemTime::now();
        let mut unused: Vec<(Duration, PathBuf)> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| !used.contains(path) && is_ours(path))
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .map(|(at, path)| (now.duration_since(at).unwrap_or_default(), path))
            .collect();
        unused.sort();
        let keep = MAX_FILES.saturating_sub(used.len());
        for (index, (age, path)) in unused.into_iter().enumerate() {
            if index >= keep || age > self.stale_for {
                // Tried again the next time.
                let _ = fs::remove_file(path);
            }
        }
    }

    fn prepare(&self) -> io::Result<()> {
        publish::folder(&self.folder, 0o700)?;
        self.is_private()
    }

    fn is_private(&self) -> io::Result<()> {
        let metadata = fs::metadata(&self.folder)?;
        if metadata.permissions().mode() & 0o022 != 0 {
            return Err(io::Error::other("others may write to this folder"));
        }
        Ok(())
    }

    fn file(&self, provider: &str) -> PathBuf {
        // Names may be anything, also `..`.
        let digest = hex(&Sha256::digest(provider.as_bytes()));
        self.folder.join(format!("{}{ENDING}", digest.get(..32).unwrap_or_default()))
    }
}

/// Whether a file has a name as we give it.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(ENDING));
    name.is_some_and(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path) -> Cache {
        Cache::new(&JwksConfig { cache: Some(folder.join("keys")), ..JwksConfig::default() })
    }

    #[test]
    fn a_set_is_kept_for_its_provider_and_its_source_alone() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        assert!(cache.read("../okta", "a").is_none());
        cache.write("../okta", "a", b"{\"keys\": []}");
        let (set, age) = cache.read("../okta", "a").unwrap();
        assert_eq!((set.as_slice(), age.as_secs() < 60), (&b"{\"keys\": []}"[..], true));
        assert!(cache.read("../okta", "b").is_none() && cache.read("okta", "a").is_none());
        let file = cache.file("../okta");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        for bad in [Vec::new(), b"{".to_vec(), vec![b' '; 2 << 20]] {
            fs::write(&file, bad).unwrap();
            assert!(cache.read("../okta", "a").is_none());
        }
    }

    #[test]
    fn another_address_or_another_trust_is_another_source() {
        let remote = |uri: &str, trusted| RemoteKeys {
            uri: uri.to_owned(),
            cluster: Some(portcullis_policy::jwt::JwksCluster { trusted, ..Default::default() }),
            ..RemoteKeys::default()
        };
        let all = [
            remote("https://a", None),
            remote("https://b", None),
            remote("https://a", Some(TrustedCa::File("x".to_owned()))),
            remote("https://a", Some(TrustedCa::Inline(b"x".to_vec()))),
            remote("https://a", Some(TrustedCa::Environment("x".to_owned()))),
        ];
        let sources: HashSet<_> = all.iter().map(source).collect();
        assert_eq!(sources.len(), all.len());
        let retried = RemoteKeys { request_timeout_ms: 9, ..all[0].clone() };
        assert_eq!(source(&retried), source(&all[0]));
    }

    #[test]
    fn only_our_own_unused_old_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = cache(folder.path());
        for provider in ["used", "unused"] {
            cache.write(provider, "a", b"{}");
        }
        fs::write(cache.folder.join("readme.json"), "").unwrap();
        cache.tidy(["used"].into_iter());
        assert_eq!(fs::read_dir(&cache.folder).unwrap().count(), 3, "it may come back");
        cache.stale_for = Duration::ZERO;
        cache.tidy(["used"].into_iter());
        assert!(cache.read("used", "a").is_some() && cache.read("unused", "a").is_none());
        assert!(cache.folder.join("readme.json").exists());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        fs::create_dir(&cache.folder).unwrap();
        fs::set_permissions(&cache.folder, fs::Permissions::from_mode(0o777)).unwrap();
        cache.write("okta", "a", b"{}");
        assert!(cache.read("okta", "a").is_none());
    }
}
