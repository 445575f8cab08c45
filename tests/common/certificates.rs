//! An authority, a certificate for `localhost`, and one for a client: what a broker with TLS needs in a test.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// `ca.pem`, then `server` and `client`, each with `.pem` and `.key`; the server's for `localhost`, long past if `expired`.
pub fn write(directory: &Path, expired: bool) {
    let put = |name: &str, content: &str| {
        std::fs::write(directory.join(name), content).expect("the temporary directory is writable");
    };
    let named = |names: &[&str], common: &str| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, common);
        if expired && common == "localhost" {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        params
    };
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca_params = named(&[], "easeld test authority");
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = ca_params.self_signed(&ca_key).expect("a certificate");
    put("ca.pem", &ca.pem());
    let issuer = Issuer::new(ca_params, ca_key);
    for (file, params) in [("server", named(&["localhost"], "localhost")), ("client", named(&[], "panel"))] {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        put(&format!("{file}.pem"), &certificate.pem());
        put(&format!("{file}.key"), &key.serialize_pem());
    }
}
