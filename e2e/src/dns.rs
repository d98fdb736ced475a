//! Questions to Consul's DNS: A and SRV records over UDP, as few lines as that takes (RFC 1035, RFC 2782).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);
/// Larger than any answer of ours; Consul cuts answers for clients without EDNS at 512 bytes.
const MAX_ANSWER: usize = 4096;
const A: u16 = 1;
const SRV: u16 = 33;
const INTERNET: u16 = 1;
/// The top bits of a length that is a pointer to a name further up.
const POINTER: u8 = 0xc0;

/// The addresses of a name, sorted; none if there is no such name.
pub async fn addresses(server: SocketAddr, name: &str) -> Result<Vec<Ipv4Addr>> {
    let mut found = Vec::new();
    for (kind, data) in ask(server, name, A).await? {
        if kind == A {
            found.push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok().context("an address of four bytes")?));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The ports of a name's SRV records, sorted.
pub async fn ports(server: SocketAddr, name: &str) -> Result<Vec<u16>> {
    let mut found = Vec::new();
    for (kind, data) in ask(server, name, SRV).await? {
        if kind == SRV {
            found.push(number(&data, 4)?);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The answer's records: type and data.
async fn ask(server: SocketAddr, name: &str, kind: u16) -> Result<Vec<(u16, Vec<u8>)>> {
    // Id 7, recursion wanted, one question.
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).context("a label of 255 bytes at most")?);
        question.extend(label.as_bytes());
    }
    question.push(0);
    question.extend([kind, INTERNET].iter().flat_map(|number| number.to_be_bytes()));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut answer = vec![0; MAX_ANSWER];
    let length = timeout(PATIENCE, socket.recv(&mut answer)).await.context("no answer of the DNS")??;
    answer.truncate(length);
    read(&answer)
}

fn read(answer: &[u8]) -> Result<Vec<(u16, Vec<u8>)>> {
    let flags = number(answer, 2)?;
    ensure!(number(answer, 0)? == 7 && flags & 0x8000 != 0, "that is no answer to the question");
    ensure!(flags & 0x0200 == 0, "the answer is cut off");
    match flags & 0x000f {
        0 => {}
        // No such name.
        3 => return Ok(Vec::new()),
        code => bail!("the DNS answers with code {code}"),
    }
    let (n_questions, n_answers) = (number(answer, 4)?, number(answer, 6)?);
    let mut at = 12;
    for _ in 0..n_questions {
        at = behind_name(answer, at)? + 4;
    }
    let mut records = Vec::new();
    for _ in 0..n_answers {
        at = behind_name(answer, at)?;
        let (kind, length) = (number(answer, at)?, usize::from(number(answer, at + 8)?));
        at += 10;
        records.push((kind, answer.get(at..at + length).context("a record that is cut off")?.to_vec()));
        at += length;
    }
    Ok(records)
}

fn behind_name(answer: &[u8], mut at: usize) -> Result<usize> {
    loop {
        match *answer.get(at).context("a name that is cut off")? {
            0 => return Ok(at + 1),
            length if length & POINTER == POINTER => return Ok(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u16> {
    let [high, low] = *bytes.get(at..at + 2).context("an answer that is cut off")? else { bail!("two bytes") };
    Ok(u16::from_be_bytes([high, low]))
}
