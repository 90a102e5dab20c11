//! Address of the client: that of the connection, or the one that trusted proxies report.
//!
//! Each proxy appends on the right the address that it was called from. So the list is read from the right, as long as
//! the addresses are those of trusted proxies. The first other address is the client's. Everything to the left of it
//! may be forged.

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    HttpRequest,
    http::header::{FORWARDED, HeaderMap, HeaderValue, X_FORWARDED_FOR},
    web,
};

use crate::domain::network::{Networks, TrustedProxies};

/// Returns the client's address. `None` if a trusted proxy reports something that is not an address: the client is
/// unknown then, and no allowlist contains it.
pub(crate) fn client_address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    match request.app_data::<web::Data<TrustedProxies>>() {
        Some(proxies) => reported_by_proxies(peer, request.headers(), &proxies.0),
        None => Some(peer),
    }
}

/// Returns the address that trusted proxies report.
///
/// A proxy writes one of the two headers and passes the other on as the client sent it. So only one of them is read:
/// `X-Forwarded-For`, which most proxies write, if it is present.
fn reported_by_proxies(peer: IpAddr, headers: &HeaderMap, proxies: &Networks) -> Option<IpAddr> {
    let (name, take_last): (_, TakeLast) = if headers.contains_key(X_FORWARDED_FOR) {
        (X_FORWARDED_FOR, last_address)
    } else {
        (FORWARDED, last_element)
    };
    // Several header lines form one list (RFC 9110 section 5.3).
    let mut lines = headers.get_all(name).map(HeaderValue::as_bytes);
    let mut rest = lines.next_back();
    let mut client = peer;
    while let (true, Some(list)) = (proxies.contain(client), rest) {
        let (hop, before) = take_last(list)?;
        client = hop;
        rest = before.or_else(|| lines.next_back());
    }
    Some(client)
}

/// Function that splits a list into its last address and the rest. `None` if the last element has no address.
type TakeLast = fn(&[u8]) -> Option<(IpAddr, Option<&[u8]>)>;

fn last_address(list: &[u8]) -> Option<(IpAddr, Option<&[u8]>)> {
    let comma = list.iter().rposition(|byte| *byte == b',');
    let hop = &list[comma.map_or(0, |comma| comma + 1)..];
    Some((
        address(std::str::from_utf8(hop).ok()?.trim())?,
        comma.map(|comma| &list[..comma]),
    ))
}

/// Splits off the `for` parameter of the last element of `Forwarded` (RFC 7239 section 4).
///
/// A comma may be part of a quoted string, which a client may have sent. And a quote that a client leaves open must not
/// include what a proxy appends. So the last element is the shortest end of the list that is a complete element. No
/// part of a quoted string can look like one, because its quotes would be escaped.
fn last_element(list: &[u8]) -> Option<(IpAddr, Option<&[u8]>)> {
    let mut commas = (0..list.len())
        .rev()
        .take(MAX_ELEMENT_BYTES)
        .filter(|index| list[*index] == b',');
    loop {
        let comma = commas.next();
        let end = &list[comma.map_or(0, |comma| comma + 1)..];
        let end = std::str::from_utf8(end)
            .ok()
            .filter(|end| end.len() <= MAX_ELEMENT_BYTES);
        match (end.and_then(|end| parse_element(end.trim())), comma) {
            (Some(client), comma) => return Some((client?, comma.map(|comma| &list[..comma]))),
            (None, Some(_)) => {}
            (None, None) => return None,
        }
    }
}

/// Maximum length of an element. Longer ones are not parsed, which bounds the work.
const MAX_ELEMENT_BYTES: usize = 1024;

/// Parses an element. Returns the address in its `for` parameter, `Some(None)` if it has no address, and `None` if the
/// text is not a well-formed element.
fn parse_element(element: &str) -> Option<Option<IpAddr>> {
    let (mut rest, mut client) = (element, None);
    loop {
        let (name, after) = rest.split_once('=')?;
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(
                after
                    .bytes()
                    .position(|b| !is_token(b))
                    .unwrap_or(after.len()),
            ),
        };
        // No address contains an escaped character, so escapes are not supported.
        if name.is_empty() || !name.bytes().all(is_token) || value.contains('\\') {
            return None;
        }
        if name.eq_ignore_ascii_case("for") && client.replace(address(value)).is_some() {
            return None;
        }
        match after.strip_prefix(';') {
            Some(next) => rest = next.trim_start(),
            None if after.is_empty() => return Some(client.flatten()),
            None => return None,
        }
    }
}

/// Parses an address with an optional port. An IPv6 address with a port must be in brackets.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || hop.parse().ok().map(|socket: SocketAddr| socket.ip());
    let address: IpAddr = hop.parse().ok().or_else(bare).or_else(with_port)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    /// Returns the client of a connection from 10.0.0.1. The proxies 10.0.0.0/8 and 2001:db8::/32 are trusted.
    fn client(lines: &[(HeaderName, &str)]) -> String {
        client_of("10.0.0.1", lines)
    }

    fn client_of(peer: &str, lines: &[(HeaderName, &str)]) -> String {
        let proxies: TrustedProxies = "10.0.0.0/8, 2001:db8::/32".parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(name.clone(), value);
        }
        let found = reported_by_proxies(peer.parse().unwrap(), &headers, &proxies.0);
        found.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right() {
        for (list, expected) in [
            ("198.51.100.7", "198.51.100.7"),
            ("192.0.2.66, 198.51.100.7", "198.51.100.7"),
            ("192.0.2.66,198.51.100.7,10.9.9.9", "198.51.100.7"),
            ("garbage, 198.51.100.7", "198.51.100.7"),
            ("\u{e9}\u{80}, 198.51.100.7", "198.51.100.7"),
            ("\u{e9}, 10.1.1.1", "unknown"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            ("198.51.100.7:4711", "198.51.100.7"),
            ("[2001:db9::7]:4711", "2001:db9::7"),
            ("[2001:db9::7]", "2001:db9::7"),
            ("2001:db9::7, 2001:db8::1", "2001:db9::7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("198.51.100.7, garbage", "unknown"),
            ("198.51.100.7,", "unknown"),
            ("", "unknown"),
            ("unknown", "unknown"),
            ("010.0.0.1", "unknown"),
        ] {
            assert_eq!(client(&[(X_FORWARDED_FOR, list)]), expected, "{list}");
        }
        let lines = [
            (X_FORWARDED_FOR, "192.0.2.66"),
            (X_FORWARDED_FOR, "198.51.100.7"),
        ];
        assert_eq!(client(&lines), "198.51.100.7");
    }

    #[test]
    fn forwarded_is_read_from_the_right_if_x_forwarded_for_is_absent() {
        for (list, expected) in [
            ("for=198.51.100.7", "198.51.100.7"),
            (
                "For=\"198.51.100.7:4711\";proto=https;by=10.0.0.1",
                "198.51.100.7",
            ),
            (
                "for=192.0.2.66, for=198.51.100.7;host=example.com",
                "198.51.100.7",
            ),
            ("for=\"[2001:db9::7]:4711\", for=10.3.3.3", "2001:db9::7"),
            ("proto=https", "unknown"),
            ("for=unknown", "unknown"),
            ("for=_hidden", "unknown"),
            ("for=192.0.2.66;for=198.51.100.7", "unknown"),
            // Attempts to make a part of an element look like an element.
            ("for=\"192.0.2.66, for=198.51.100.7", "198.51.100.7"),
            ("\u{e9}=, for=198.51.100.7", "198.51.100.7"),
            ("for=\"192.0.2.66, for=10.1.1.1", "unknown"),
            (
                "for=198.51.100.7;host=\"x, for=192.0.2.66\"",
                "198.51.100.7",
            ),
            (
                "for=198.51.100.7;host=\"x, for=192.0.2.66;by=\"",
                "198.51.100.7",
            ),
            ("for=198.51.100.7;host=\"x\\\", for=192.0.2.66\"", "unknown"),
            (
                "for=198.51.100.7;host=\"x, for=192.0.2.66;by=\\\"y\"",
                "unknown",
            ),
            ("for=198.51.100.7 for=192.0.2.66", "unknown"),
            ("for=198.51.100.7,", "unknown"),
            ("for", "unknown"),
            ("=x", "unknown"),
            ("", "unknown"),
            ("for=198.51.100.7;", "unknown"),
            (
                &format!("for=198.51.100.7;x={}", "y".repeat(2000)),
                "unknown",
            ),
            (
                &format!("{}for=198.51.100.7", "x,".repeat(2000)),
                "198.51.100.7",
            ),
        ] {
            assert_eq!(client(&[(FORWARDED, list)]), expected, "{list}");
        }
        let both = [
            (FORWARDED, "for=192.0.2.66"),
            (X_FORWARDED_FOR, "198.51.100.7"),
        ];
        assert_eq!(client(&both), "198.51.100.7");
    }

    #[test]
    fn headers_from_an_untrusted_peer_are_ignored() {
        let forged = [(X_FORWARDED_FOR, "10.0.0.5"), (FORWARDED, "for=10.0.0.5")];
        assert_eq!(client_of("198.51.100.7", &forged), "198.51.100.7");
        assert_eq!(client_of("10.0.0.1", &[]), "10.0.0.1");
    }
}
