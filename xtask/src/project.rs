//! Where things are: the work tree, cargo's target folder and the cache of fetched parts.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The folders that every command needs, all absolute.
pub(crate) struct Project {
    /// The work tree.
    pub(crate) root: PathBuf,
    /// Cargo's target folder for native builds.
    pub(crate) target: PathBuf,
    /// Fetched and unpacked parts; survives `cargo clean` and is shared by work trees.
    pub(crate) cache: PathBuf,
}

impl Project {
    /// Finds the folders; makes the cache folder.
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets the variable when it runs us; the constant serves a program that is started by hand.
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        let root = manifest.parent().context("xtask has no parent folder")?.to_owned();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder)?,
            // We run from `<target>/<profile>/xtask`, wherever cargo's configuration puts that.
            None => env::current_exe()?.ancestors().nth(2).context("xtask runs from an unexpected place")?.to_owned(),
        };
        let cache = cache_folder(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
            .context("no cache folder: set PORTCULLIS_CACHE, XDG_CACHE_HOME or HOME")?;
        std::fs::create_dir_all(&cache).with_context(|| format!("making the cache folder {}", cache.display()))?;
        Ok(Self { root, target, cache: std::path::absolute(cache)? })
    }

    /// `dist/`, where finished artefacts go; not in git.
    pub(crate) fn dist(&self) -> PathBuf {
        self.root.join("dist")
    }

    /// A program that cargo builds from the workspace, in the profile's folder (`debug`, `release`).
    pub(crate) fn program(&self, profile_folder: &str, name: &str) -> PathBuf {
        self.target.join(profile_folder).join(format!("{name}{}", env::consts::EXE_SUFFIX))
    }

    /// A path as it is shown to people: relative to the work tree where it is inside.
    pub(crate) fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

/// The cache folder by the environment; `None` when nothing names one.
fn cache_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    variable("PORTCULLIS_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("portcullis")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache").join("portcullis")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(variables: &[(&str, &str)]) -> Option<PathBuf> {
        cache_folder(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value)))
    }

    #[test]
    fn the_own_variable_wins_over_xdg_and_home() {
        let all = [("PORTCULLIS_CACHE", "/own"), ("XDG_CACHE_HOME", "/xdg"), ("HOME", "/me")];
        assert_eq!(folder(&all), Some("/own".into()));
        assert_eq!(folder(&all[1..]), Some("/xdg/portcullis".into()));
        assert_eq!(folder(&all[2..]), Some("/me/.cache/portcullis".into()));
        assert_eq!(folder(&[]), None);
    }
}
