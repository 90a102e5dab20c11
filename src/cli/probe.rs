//! Asks a server for its health over HTTP. Only the status of the response is of interest.

use std::{fmt, str::FromStr, time::Duration};

use ureq::{
    Agent,
    tls::{TlsConfig, TlsProvider},
};
use url::Url;

/// URL of a server: `http://host:port` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerUrl {
    pub tls: bool,
    /// Host as in a URL: an IPv6 address is in brackets.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for ServerUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or(
            "must be http://HOST:PORT or https://HOST:PORT without a path, such as \
             http://127.0.0.1:8000",
        )
    }
}

impl ServerUrl {
    fn parse(text: &str) -> Option<Self> {
        // The parser drops line breaks.
        let url = Url::parse(text)
            .ok()
            .filter(|_| !text.contains(char::is_control))?;
        let is_plain = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        let port = url.port_or_known_default().filter(|port| *port > 0)?;
        let is_http = ["http", "https"].contains(&url.scheme());
        (is_plain && is_http).then_some(Self {
            tls: url.scheme() == "https",
            host: url.host_str()?.to_owned(),
            port,
        })
    }
}

/// Sends `GET path` and returns the status of the response. Fails after `timeout`.
///
/// The certificate is not verified: it names the service as its clients know it, not the address of this machine
/// that is used here. Nothing secret is sent, and an impostor on this address could only claim that the service is
/// healthy.
pub(super) fn status(
    server: &ServerUrl,
    path: &str,
    timeout: Duration,
) -> Result<u16, ureq::Error> {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::NativeTls)
        .disable_verification(true)
        .build();
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // A proxy of the environment would answer for the server.
        .proxy(None)
        .timeout_global(Some(timeout))
        .user_agent("latchkey health")
        .tls_config(tls)
        .build()
        .into();
    let response = agent.get(format!("{server}{path}")).call()?;
    Ok(response.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_url_is_parsed_and_others_are_rejected() {
        for (url, read) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://[::1]:8000/", "http://[::1]:8000"),
            ("https://keys.example.com", "https://keys.example.com:443"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            let parsed: ServerUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), read);
        }
        for url in [
            "",
            "127.0.0.1:8000",
            "ftp://x",
            "http://",
            "http://x:0",
            "http://x:y",
            "http://x/path",
            "http://user@x",
            "http://x\r\nhost: y",
        ] {
            assert!(url.parse::<ServerUrl>().is_err(), "{url}");
        }
    }
}
