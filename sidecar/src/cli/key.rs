//! `portcullis key`: API keys. The secret is shown once, to its new holder; what is stored is a salted hash.

use std::io::{self, Write as _};

use clap::{Parser, Subcommand};
use portcullis_policy::api_key;

use super::Outcome;

/// Subcommands of `portcullis key`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key: prints the key itself, and the entry to store in the policy
    New(NewArgs),
}

/// Options of `portcullis key new`.
#[derive(Debug, Parser)]
pub(super) struct NewArgs {
    /// The service that a holder of the key is, as intentions name it
    #[arg(long, value_name = "SERVICE")]
    source: String,
    /// Print `{"key", "entry"}` as JSON
    #[arg(long)]
    json: bool,
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^10: enough that ids do not meet by chance.
const ID_LEN: usize = 10;
/// 62^43 is more than 256 bits.
const SECRET_LEN: usize = 43;
const SALT_LEN: usize = 16;

pub(super) fn run(command: &Command) -> anyhow::Result<Outcome> {
    let Command::New(args) = command;
    if args.source.is_empty() || args.source.contains('*') {
        anyhow::bail!("--source must name one service");
    }
    let (id, secret) = (word(ID_LEN)?, word(SECRET_LEN)?);
    let mut salt = [0; SALT_LEN];
    getrandom::fill(&mut salt)?;
    let key = format!("{}{id}_{secret}", api_key::PREFIX);
    let hash = api_key::format_hash(&salt, &api_key::hash(&salt, &secret));
    let entry = serde_json::json!({ "Kind": "api-key", "Name": id, "Source": { "Name": args.source }, "Hash": hash });
    if args.json {
        super::print_json(&serde_json::json!({ "key": key, "entry": entry }))?;
    } else {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "# Give this key to its holder; it cannot be shown again:\n#   {key}")?;
        writeln!(stdout, "# Store this entry in the policy directory:")?;
        write!(stdout, "{}", serde_saphyr::to_string(&entry)?)?;
    }
    Ok(Outcome::Holds)
}

/// Random letters and digits, without bias.
fn word(len: usize) -> anyhow::Result<String> {
    let mut word = String::new();
    while word.len() < len {
        let mut byte = [0];
        getrandom::fill(&mut byte)?;
        // 248 is the largest multiple of 62 in a byte: above it, the first letters would be likelier.
        let index = usize::from(byte[0]);
        if index < 248 {
            word.extend(ALPHABET.get(index % ALPHABET.len()).map(|byte| char::from(*byte)));
        }
    }
    Ok(word)
}
