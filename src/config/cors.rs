//! Settings of cross-origin resource sharing (CORS).

use clap::Args;

/// Settings of cross-origin resource sharing (CORS).
#[derive(Debug, Clone, Default, Args)]
pub struct CorsConfig {
    /// Origins whose pages may call the API from a browser (CORS), separated by commas, such as
    /// https://app.example.com [default: none].
    #[arg(
        long = "cors-allowed-origins",
        env = "CORS_ALLOWED_ORIGINS",
        default_value = "",
        hide_default_value = true
    )]
    pub allowed_origins: AllowedOrigins,
}

/// Origins as browsers write them (RFC 6454 section 6.2), compared byte by byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Box<[String]>);

const REMEDY: &str = "must be origins as browsers send them, separated by commas: scheme://host or \
    scheme://host:port in lower case, without a path and without the scheme's default port, such as \
    https://app.example.com or http://localhost:3000";

impl AllowedOrigins {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether this value of an `Origin` header is allowed.
    pub fn contains(&self, origin: &[u8]) -> bool {
        self.0.iter().any(|allowed| allowed.as_bytes() == origin)
    }
}

impl std::str::FromStr for AllowedOrigins {
    type Err = &'static str;

    /// Parses a list of origins, separated by commas.
    ///
    /// `*` is rejected. It would not give a page any credential, since keys and tokens are not cookies. But it would
    /// let every page that a user opens call a service that only that user's machine or network can reach.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let origins = text.split(',').map(str::trim);
        let origins: Option<Box<[String]>> = origins
            .map(|origin| is_origin(origin).then(|| origin.to_owned()))
            .collect();
        origins.map(Self).ok_or(REMEDY)
    }
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_lower_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let scheme_is_good = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|byte| is_lower_or_digit(byte) || b"+-.".contains(&byte));
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_is_good = match address {
        Some(address) => address
            .parse()
            .is_ok_and(|parsed: std::net::Ipv6Addr| parsed.to_string() == address),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| is_lower_or_digit(b) || b"-._".contains(&b))
        }
    };
    let port_is_good = port.is_none_or(|port| {
        let default = match scheme {
            "http" => "80",
            "https" => "443",
            _ => "",
        };
        let number = port.parse().unwrap_or(0u16);
        number > 0 && number.to_string() == port && port != default
    });
    scheme_is_good && host_is_good && port_is_good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_as_browsers_write_it_is_accepted() {
        for text in [
            "https://app.example.com",
            "http://localhost:3000, https://xn--bcher-kva.example",
            "http://[::1]:8080",
            "http://127.0.0.1:8080",
            "capacitor://localhost",
        ] {
            assert!(text.parse::<AllowedOrigins>().is_ok(), "{text}");
        }
        assert!("".parse::<AllowedOrigins>().unwrap().is_empty());
    }

    #[test]
    fn origin_that_no_browser_sends_is_rejected() {
        for text in [
            "*",
            "null",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://APP.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "http://app.example.com:",
            "http://app.example.com:0",
            "http://app.example.com:080",
            "http://app.example.com:65536",
            "https://user@app.example.com",
            "https://bücher.example",
            "https://*.example.com",
            "https://a.example,,https://b.example",
            "http://[::0001]",
            "1http://a.example",
        ] {
            assert_eq!(text.parse::<AllowedOrigins>(), Err(REMEDY), "{text}");
        }
    }
}
