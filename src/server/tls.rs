//! TLS of the service itself, with a certificate that can be replaced while the service runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::StartError;
use crate::config::TlsConfig;

/// Certificate and key, as read most recently from their files.
pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the certificate and the key. Returns `None` if neither is set.
    pub(super) fn open(config: &TlsConfig) -> Result<Option<Self>, StartError> {
        let (certificate, key) = match (&config.certificate, &config.key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (Some(_), None) => return Err(missing("TLS_KEY (--tls-key)", "TLS_CERT")),
            (None, Some(_)) => return Err(missing("TLS_CERT (--tls-cert)", "TLS_KEY")),
        };
        let current = load(&certificate, &key).map_err(StartError::Setting)?;
        Ok(Some(Self {
            certificate,
            key,
            current: RwLock::new(current),
        }))
    }

    /// Reloads the certificate and the key for later handshakes. Unusable files change nothing.
    pub(super) fn reload(&self) {
        match load(&self.certificate, &self.key) {
            Ok(config) => {
                let mut current = self.current.write();
                *current = config;
                tracing::info!("reloaded TLS_CERT and TLS_KEY");
            }
            Err(error) => tracing::error!(
                "failed to reload TLS: {error}; the previous certificate stays in use"
            ),
        }
    }

    /// Returns the acceptor for the next handshake.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read();
        current.clone().into()
    }
}

fn missing(name: &str, other: &str) -> StartError {
    StartError::Setting(format!(
        "{name} is missing, but {other} is set; set both for HTTPS, or neither"
    ))
}

/// Reads a certificate chain and its key.
///
/// # Errors
///
/// A text that names the setting and the remedy. It never contains anything from the files.
fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let read = |name: &str, path: &Path| {
        let read = std::fs::read(path);
        read.map_err(|error| format!("{name} cannot be read from {}: {error}", path.display()))
    };
    const CERT: &str = "TLS_CERT (--tls-cert)";
    const KEY: &str = "TLS_KEY (--tls-key)";
    let chain = CertificateDer::pem_slice_iter(&read(CERT, certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| {
            format!(
                "{CERT} must be a file with certificates in PEM, the server's certificate first"
            )
        })?;
    let key = PrivateKeyDer::from_pem_slice(&read(KEY, key)?)
        .map_err(|_| format!("{KEY} must be a file with an unencrypted private key in PEM"))?;
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| {
        format!("{KEY} must be the key of the first certificate in {CERT}: {error}")
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
