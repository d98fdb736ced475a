//! `seeds FOLDER`: writes the seeds of every target to `FOLDER/<target>/`, and prints each target with its longest input
//! for `cargo xtask fuzz`.
#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

#[path = "../seeds/mod.rs"]
mod seeds;

use std::{env, fs, path::PathBuf};

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).expect("a folder"));
    for target in portcullis_fuzz::TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in seeds::of(target.name).iter().enumerate() {
            fs::write(folder.join(format!("seed-{index:03}")), seed)?;
        }
        println!("{} {}", target.name, target.max_len);
    }
    Ok(())
}
