//! Where a request comes from: the address of the connection, or the one that trusted proxies vouch for.
//!
//! Each proxy adds the address that it was called from on the right. So the list is read from there,
//! as long as it names proxies that are trusted; the first address that is none of theirs is the
//! client's, and whatever stands before it may be made up.

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    HttpRequest,
    http::header::{FORWARDED, HeaderMap, HeaderValue, X_FORWARDED_FOR},
    web,
};

use crate::domain::network::{Networks, TrustedProxies};

/// The client's address. `None` if a trusted proxy vouches for something that is no address: nobody
/// knows then, and no allowlist admits it.
pub(crate) fn client_address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    match request.app_data::<web::Data<TrustedProxies>>() {
        Some(proxies) => vouched_for(peer, request.headers(), &proxies.0),
        None => Some(peer),
    }
}

/// A proxy writes one of the two headers and leaves the other as the client sent it. So only one is
/// read: `X-Forwarded-For`, which most write, if it is there.
fn vouched_for(peer: IpAddr, headers: &HeaderMap, proxies: &Networks) -> Option<IpAddr> {
    let (name, take_last): (_, TakeLast) = match headers.contains_key(X_FORWARDED_FOR) {
        true => (X_FORWARDED_FOR, last_address),
        false => (FORWARDED, last_element),
    };
    // Several lines are one list (RFC 9110 section 5.3).
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

/// Takes the address that stands last in a list off it. `None` if it is none.
type TakeLast = fn(&[u8]) -> Option<(IpAddr, Option<&[u8]>)>;

fn last_address(list: &[u8]) -> Option<(IpAddr, Option<&[u8]>)> {
    let comma = list.iter().rposition(|byte| *byte == b',');
    let hop = &list[comma.map_or(0, |comma| comma + 1)..];
    Some((
        address(std::str::from_utf8(hop).ok()?.trim())?,
        comma.map(|comma| &list[..comma]),
    ))
}

/// The `for` of the last element of `Forwarded` (RFC 7239 section 4).
///
/// A comma may also stand in a quoted string, where a client may have put it; and a quote that a client
/// leaves open must not swallow what a proxy adds. So the last element is the shortest end of the list
/// that is a whole one. No part of another can pass for it: its quotes would be escaped.
fn last_element(list: &[u8]) -> Option<(IpAddr, Option<&[u8]>)> {
    let mut commas = (0..list.len())
        .rev()
        .take(MAX_ELEMENT_BYTES)
        .filter(|place| list[*place] == b',');
    loop {
        let comma = commas.next();
        let end = &list[comma.map_or(0, |comma| comma + 1)..];
        let end = std::str::from_utf8(end)
            .ok()
            .filter(|end| end.len() <= MAX_ELEMENT_BYTES);
        match (end.and_then(|end| parameters(end.trim())), comma) {
            (Some(client), comma) => return Some((client?, comma.map(|comma| &list[..comma]))),
            (None, Some(_)) => {}
            (None, None) => return None,
        }
    }
}

/// Longer ones are not worth the work.
const MAX_ELEMENT_BYTES: usize = 1024;

/// The address in the one parameter `for` of an element, if it has an address there. `None` if it is no
/// element.
fn parameters(element: &str) -> Option<Option<IpAddr>> {
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
        // No address has an escaped character, so what has one is not worth reading.
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

/// An address, perhaps with a port; an IPv6 address then stands in brackets.
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

    /// Seen from 10.0.0.1, where 10.0.0.0/8 and 2001:db8::/32 are trusted.
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
        let found = vouched_for(peer.parse().unwrap(), &headers, &proxies.0);
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
    fn forwarded_is_read_where_the_other_is_not_there() {
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
            // Attempts to have a part of one element read as another.
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
    fn nobody_elses_word_counts() {
        let forged = [(X_FORWARDED_FOR, "10.0.0.5"), (FORWARDED, "for=10.0.0.5")];
        assert_eq!(client_of("198.51.100.7", &forged), "198.51.100.7");
        assert_eq!(client_of("10.0.0.1", &[]), "10.0.0.1");
    }
}
