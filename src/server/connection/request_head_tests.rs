//! Tests of the header section reader: single cases, and random sections compared with the HTTP library's parser.

use super::*;

fn read(text: &str) -> (Option<HeaderSection>, String) {
    let mut bytes = text.as_bytes().to_vec();
    let section = HeaderReader::default().read(&mut bytes).unwrap();
    (section, String::from_utf8(bytes).unwrap())
}

#[test]
fn header_section_ends_at_its_empty_line_in_any_split_of_its_bytes() {
    for text in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "\r\n\nGET / HTTP/1.1\nhost: x\n\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nExpect: 100-continue\r\n\r\n",
    ] {
        let all = format!("{text}abc\r\n\r\n");
        for cut in 0..=all.len() {
            let mut bytes = all.as_bytes().to_vec();
            let mut reader = HeaderReader::default();
            let first = reader.read(&mut bytes[..cut]).unwrap();
            assert_eq!(first.is_some(), cut >= text.len(), "{cut}");
            let whole = first.or_else(|| reader.read(&mut bytes).unwrap()).unwrap();
            assert_eq!(whole.end, text.len(), "{cut}");
        }
    }
}

#[test]
fn expect_and_upgrade_are_overwritten_with_spaces_and_nothing_else() {
    let (section, rest) = read(
        "PUT / HTTP/1.1\r\nExpect:100-Continue\r\nUPGRADE: websocket\r\n\
         connection: keep-alive, Upgrade, http2-settings\r\ncontent-length: 7\r\nx-upgrade: upgrade\r\n\r\n",
    );
    assert!(section.unwrap().expects_continue);
    let lines: Vec<_> = rest.lines().map(str::trim_end).collect();
    assert_eq!(
        lines,
        [
            "PUT / HTTP/1.1",
            "Expect:",
            "UPGRADE:",
            "connection: keep-alive,        , http2-settings",
            "content-length: 7",
            "x-upgrade: upgrade",
            ""
        ]
    );
}

#[test]
fn request_closes_the_connection_by_version_connection_field_or_ambiguous_body() {
    for (text, closes) in [
        ("GET / HTTP/1.1\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nconnection: foo, CLOSE\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nconnection: closed\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", false),
        (
            "GET / HTTP/1.0\r\nconnection: keep-alive, close\r\n\r\n",
            true,
        ),
        ("CONNECT x:1 HTTP/1.1\r\n\r\n", true),
        (
            "GET / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            true,
        ),
    ] {
        assert_eq!(read(text).0.unwrap().closes, closes, "{text}");
    }
}

#[test]
fn invalid_request_is_rejected_before_its_header_section_is_complete() {
    for bytes in [
        &b"\x16\x03\x01\x02"[..],
        b"SOMETHING ELSE\r\n",
        b"GET / HTTP/1.2\r\n",
        b"GET / HTTP/1.1\r\nno field\r\n",
        b"GET / HTTP/1.1\r\nhost: a b\r\n",
    ] {
        let read = HeaderReader::default().read(&mut bytes.to_vec());
        assert_eq!(read, Err(InvalidRequest), "{bytes:?}");
    }
}

mod compared_with_the_library {
    use actix_http::h1::{Codec, Message, MessageType};
    use actix_web::web::BytesMut;
    use proptest::{prelude::*, sample::select, test_runner::TestRunner};
    use tokio_util::codec::Decoder as _;

    use super::*;

    fn field() -> impl Strategy<Value = String> {
        let name = select(vec![
            "content-length",
            "Content-Length",
            "transfer-encoding",
            "connection",
            "upgrade",
            "expect",
            "host",
            "x",
            " content-length",
            "content-length ",
            "transfer-encoding\t",
        ]);
        let value = select(vec![
            "3",
            " 3 ",
            "0",
            "+3",
            "3, 3",
            "03",
            "",
            "chunked",
            "Chunked",
            "chunked, chunked",
            "identity",
            "gzip, chunked",
            "close",
            "keep-alive",
            "upgrade",
            "Upgrade, close",
            "websocket",
            "h2c",
            "100-continue",
            "\t3\t",
            "3\r\n 4",
            "\u{b}3",
            "ä",
            "3\0",
        ]);
        let end = select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r\r\n"]);
        (name, select(vec![":", ": "]), value, end)
            .prop_map(|(name, colon, value, end)| format!("{name}{colon}{value}{end}"))
    }

    fn request() -> impl Strategy<Value = String> {
        let method = select(vec!["GET", "POST", "CONNECT", "PUT"]);
        let version = select(vec!["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"]);
        let fields = prop::collection::vec(field(), 0..4);
        (method, version, any::<bool>(), fields).prop_map(|(method, version, has_host, fields)| {
            let host = if has_host { "host: x\r\n" } else { "" };
            format!("{method} / {version}\r\n{host}{}\r\n", fields.concat())
        })
    }

    /// For every request that the library accepts, both readers find the same end of the body.
    #[actix_web::test]
    async fn reader_and_library_find_the_same_body() {
        let mut runner = TestRunner::new(ProptestConfig::with_cases(4000));
        runner.run(&request(), compare).unwrap();
    }

    fn compare(request: String) -> Result<(), TestCaseError> {
        let mut bytes = format!("{request}3\r\nabc\r\n0\r\n\r\n").into_bytes();
        let Ok(Some(section)) = HeaderReader::default().read(&mut bytes) else {
            return Ok(());
        };
        if section.lacks_content_length {
            bytes.splice(
                section.fields_end..section.fields_end,
                *b"content-length: 0\r\n",
            );
        }
        let mut codec = Codec::default();
        let mut rest = BytesMut::from(&bytes[..]);
        let Ok(decoded) = codec.decode(&mut rest) else {
            return Ok(());
        };
        let Some(Message::Item(library)) = decoded else {
            return Err(TestCaseError::fail("the library waits for more"));
        };
        prop_assert!(!library.head().expect());
        // The library also treats `CONNECT` as an upgrade.
        let is_connect = library.method() == actix_web::http::Method::CONNECT;
        prop_assert!(!library.upgrade() || is_connect);
        let keeps = library.head().connection_type() == actix_http::ConnectionType::KeepAlive;
        prop_assert!(section.closes || keeps);
        match (section.body, codec.message_type()) {
            (BodyFraming::Unknown, _) => {}
            (BodyFraming::Length(0), kind) => prop_assert!(matches!(kind, MessageType::None)),
            (body, kind) => {
                prop_assert!(matches!(kind, MessageType::Payload));
                let length = rest.len();
                let mut size = 0;
                while let Ok(Some(Message::Chunk(Some(part)))) = codec.decode(&mut rest) {
                    size += part.len();
                }
                prop_assert_eq!(size, 3);
                let is_chunked = length - rest.len() > 3;
                prop_assert_eq!(body == BodyFraming::Chunked, is_chunked);
            }
        }
        Ok(())
    }
}
