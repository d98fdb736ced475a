//! The bytes below the connection to Redis: TCP, TLS or a socket of this host, and no more of them than can be meant.
//!
//! The client keeps a message in memory until it is whole, however long its sender made it. So what comes in is counted: a
//! server that sends more than [`MAX_BYTES_A_SECOND`] is left, and visited again after a while.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use redis::ConnectionAddr;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

/// Most that is read in a second, in bytes: the usage of 100,000 keys, ten times a second.
const MAX_BYTES_A_SECOND: usize = 8 * 1024 * 1024;

/// Any stream of bytes.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A stream whose other end cannot send without end.
pub(super) struct Counted<T> {
    stream: T,
    since: Instant,
    n_read: usize,
}

/// Connects; `authorities` are certificates of those that may vouch for a TLS server.
pub(super) async fn open(address: &ConnectionAddr, authorities: Option<&Path>) -> io::Result<Counted<Box<dyn Bytes>>> {
    let stream: Box<dyn Bytes> = match address {
        ConnectionAddr::Tcp(host, port) => Box::new(tcp(host, *port).await?),
        ConnectionAddr::TcpTls { host, port, .. } => {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
            let connector = TlsConnector::from(Arc::new(tls(authorities)?));
            Box::new(connector.connect(name, tcp(host, *port).await?).await?)
        }
        ConnectionAddr::Unix(path) => Box::new(UnixStream::connect(path).await?),
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "this kind of address is not supported")),
    };
    Ok(Counted::new(stream))
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn tls(authorities: Option<&Path>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = authorities {
        let at = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| at(&error))? {
            let certificate = certificate.map_err(|error| at(&error))?;
            roots.add(certificate).map_err(|error| at(&error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(io::Error::other("there is no authority that could vouch for the server: set caFile"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

// === impl Counted ===

impl<T> Counted<T> {
    fn new(stream: T) -> Self {
        Self { stream, since: Instant::now(), n_read: 0 }
    }

    fn count(&mut self, n_read: usize) -> io::Result<()> {
        if self.since.elapsed() >= Duration::from_secs(1) {
            (self.since, self.n_read) = (Instant::now(), 0);
        }
        self.n_read += n_read;
        if self.n_read > MAX_BYTES_A_SECOND {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the server sends more than hosts could say"));
        }
        Ok(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let n_read = buf.filled().len() - before;
        Poll::Ready(self.count(n_read))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_server_that_sends_without_end_is_left() {
        let mut stream = Counted::new(tokio::io::join(tokio::io::repeat(0), tokio::io::sink()));
        let mut read = 0;
        let mut buf = vec![0; 1 << 20];
        let error = loop {
            match stream.read(&mut buf).await {
                Ok(n) => read += n,
                Err(error) => break error,
            }
            assert!(read <= MAX_BYTES_A_SECOND, "{read}");
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn without_an_authority_no_server_is_believed() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(tls(Some(empty.path())).unwrap_err().to_string().contains("caFile"));
        tls(Some(Path::new("/nowhere/ca.pem"))).unwrap_err();
    }
}
