//! TLS of its own, from two files that may be exchanged while it runs.

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

/// The certificate and its key, as they were read last.
pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads them, if they are set.
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

    /// Reads them again, for handshakes to come. What cannot be used changes nothing.
    pub(super) fn reload(&self) {
        match load(&self.certificate, &self.key) {
            Ok(config) => {
                let mut current = self.current.write();
                *current = config;
                tracing::info!("TLS_CERT and TLS_KEY are read again");
            }
            Err(error) => tracing::error!("{error}; the certificate from before stays in use"),
        }
    }

    /// What shakes hands.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read();
        current.clone().into()
    }
}

fn missing(name: &str, other: &str) -> StartError {
    StartError::Setting(format!(
        "{name} is missing: {other} is set; set both for HTTPS, or neither"
    ))
}

/// An error names the setting and never says what is in the file.
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
            format!("{CERT} must be a file with certificates in PEM, the server's first")
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
