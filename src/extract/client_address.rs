//! Where a request comes from: the address of the connection, or the one that trusted proxies vouch for.
//!
//! Each proxy adds the address that it was called from on the right. So the list is read from there,
//! as long as it names proxies that are trusted; the first address that is none of theirs is the
//! client's, and whatever stands before it may be made up.

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    HttpRequest,
    http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR},
    web,
};

use crate::core::network::{Networks, TrustedProxies};

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
    if !proxies.contain(peer) {
        return Some(peer);
    }
    let hops = if headers.contains_key(X_FORWARDED_FOR) {
        let lists = joined(headers, &X_FORWARDED_FOR)?;
        lists.split(',').map(|hop| address(hop.trim())).collect()
    } else {
        forwarded(&joined(headers, &FORWARDED)?)?
    };
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        client = hop?;
        if !proxies.contain(client) {
            break;
        }
    }
    Some(client)
}

/// All lines of a header as one (RFC 9110 section 5.3).
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Result<Vec<_>, _> = headers.get_all(name).map(|line| line.to_str()).collect();
    Some(lines.ok()?.join(","))
}

/// An address, perhaps with a port; an IPv6 address then stands in brackets.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || hop.parse().ok().map(|socket: SocketAddr| socket.ip());
    let address: IpAddr = hop.parse().ok().or_else(bare).or_else(with_port)?;
    Some(address.to_canonical())
}

/// The `for` of each element of `Forwarded` (RFC 7239 section 4). `None` if any part of it is not
/// well-formed: a quote that a client leaves open must not swallow what a proxy adds, nor a comma in
/// one pass for the end of an element.
fn forwarded(text: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut rest = text.trim();
    let mut hops = Vec::new();
    let mut hop = None;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find([';', ',', ' ', '\t']).unwrap_or(after.len())),
        };
        // An escaped quote is not worth reading: no address has one.
        if value.contains(['\\', '"']) {
            return None;
        }
        if name.eq_ignore_ascii_case("for") && hop.replace(address(value)).is_some() {
            return None;
        }
        let after = after.trim_start();
        rest = match after.as_bytes().first() {
            Some(b';') => after[1..].trim_start(),
            Some(b',') => {
                hops.push(hop.take().flatten());
                let next = after[1..].trim_start();
                if next.is_empty() {
                    return None;
                }
                next
            }
            None => "",
            Some(_) => return None,
        };
    }
    if !text.trim().is_empty() {
        hops.push(hop.flatten());
    }
    Some(hops)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    /// Seen from 10.0.0.1, where 10.0.0.0/8 and 2001:db8::/32 are trusted.
    fn client(lines: &[(HeaderName, &str)]) -> String {
        client_of("10.0.0.1", lines)
    }

    fn client_of(peer: &str, lines: &[(HeaderName, &str)]) -> String {
        let proxies: TrustedProxies = "10.0.0.0/8, 2001:db8::/32".parse().unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
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
            ("for=\"192.0.2.66, for=198.51.100.7", "unknown"),
            (
                "for=198.51.100.7;host=\"x, for=192.0.2.66\"",
                "198.51.100.7",
            ),
            ("for=198.51.100.7;host=\"x\\\", for=192.0.2.66", "unknown"),
            ("for=198.51.100.7 for=192.0.2.66", "unknown"),
            ("for=198.51.100.7,", "unknown"),
            ("for", "unknown"),
            ("=x", "unknown"),
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
