//! The TLS side of a connection, built from PEM files; used by `config`.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::files;

/// What went wrong with which key of the `[mqtt]` table.
pub(super) type Problem = (&'static str, String);

/// Builds the configuration: `ca` instead of the system's authorities, `client` = certificate chain
/// and key for brokers that want to know us. TLS 1.2 and 1.3, ring for the arithmetic.
pub(super) fn configure(
    ca: Option<&Path>,
    client: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, Problem> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(match ca {
        Some(file) => read_authorities(file).map_err(|message| ("ca_file", message))?,
        None => system_authorities().map_err(|message| ("ca_file", message))?,
    });
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| ("ca_file", error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ("url", format!("TLS is not available: {error}")))?
        .with_webpki_verifier(verifier);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = read_certificates(certificate).map_err(|message| ("cert_file", message))?;
            let key = read_key(key).map_err(|message| ("key_file", message))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| ("cert_file", format!("does not go with key_file: {error}")))?
        }
    };
    Ok(Arc::new(config))
}

/// The authorities that the system trusts, the owner's own included (`update-ca-certificates`).
fn system_authorities() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("is not set and the system has no certificate authorities: \
                    install ca-certificates or set ca_file"
            .to_owned());
    }
    Ok(roots)
}

fn read_authorities(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        roots
            .add(certificate)
            .map_err(|error| format!("holds a certificate that is no authority's: {error}"))?;
    }
    Ok(roots)
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = files::read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not a PEM file of certificates: {error}"))?;
    if certificates.is_empty() {
        return Err("holds no certificate (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(certificates)
}

fn read_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&files::read(file)?)
        .map_err(|error| format!("holds no unencrypted private key in PEM: {error}"))
}
