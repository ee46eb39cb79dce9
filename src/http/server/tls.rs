//! TLS that ends here: a certificate with its key, replaced while connections come in.
//!
//! A pair is taken whole or not at all: the files are read, the key is compared with the certificate,
//! and only then does the next handshake use them. The keys of session tickets outlive a pair, because
//! docker and podman open a connection for every request and should not shake hands in full each time.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ProducesTickets;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

/// Largest file of certificates or of a key, in bytes; chains have some thousands.
const MAX_BYTES: u64 = 1 << 20;

/// The files of a certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and after it those that lead to an authority.
    pub certificate: PathBuf,
    /// The key: PKCS#8, SEC1 or PKCS#1, not encrypted.
    pub key: PathBuf,
}

/// What handshakes are made with; clones share it.
#[derive(Clone)]
pub struct Tls {
    current: Arc<ArcSwap<ServerConfig>>,
    tickets: Arc<dyn ProducesTickets>,
}

impl Tls {
    /// Loads a pair to begin with.
    pub fn load(files: &Files) -> Result<Self, Error> {
        let tickets = aws_lc_rs::Ticketer::new().map_err(Error::Tickets)?;
        let config = config(files, Arc::clone(&tickets))?;
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(config)),
            tickets,
        })
    }

    /// Loads a pair for the handshakes to come; if it cannot be used, the one there is stays.
    pub fn reload(&self, files: &Files) -> Result<(), Error> {
        let config = config(files, Arc::clone(&self.tickets))?;
        self.current.store(Arc::new(config));
        Ok(())
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current.load_full())
            .accept(stream)
            .await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

fn config(files: &Files, tickets: Arc<dyn ProducesTickets>) -> Result<ServerConfig, Error> {
    let chain = certificates(&files.certificate)?;
    let key = key(&files.key)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|source| Error::Pair {
            files: files.clone(),
            source,
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = tickets;
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let malformed = |source| Error::Certificate {
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(malformed)?;
    if chain.is_empty() {
        return Err(malformed(pem::Error::NoItemsFound));
    }
    Ok(chain)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| Error::Key {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is far larger than what it should be.
    #[error("{} has more than {MAX_BYTES} bytes; that is no certificate and no key", .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// There is no certificate in the file.
    #[error("{} is not a chain of certificates in PEM", .path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// There is no key in the file that could be read without a passphrase.
    #[error("{} is not a private key in PEM (PKCS#8, SEC1 or PKCS#1, not encrypted)", .path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The two do not belong together, or one of them is of a kind we do not know.
    #[error("cannot use {} with {}", .files.certificate.display(), .files.key.display())]
    Pair {
        /// Which files.
        files: Files,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// The system has no random numbers.
    #[error("cannot make keys for session tickets")]
    Tickets(#[source] rustls::Error),
}
