//! Swagger UI and the OpenAPI document, as a browser loads them.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use flate2::read::GzDecoder;

use crate::{on_both_databases, support::TestServer};

on_both_databases! {
    root_redirects_to_the_documentation,
    documentation_page_and_its_assets_come_from_this_server,
    served_openapi_document_is_the_committed_one,
    only_style_in_a_script_is_allowed_by_its_digest,
    document_is_compressed_for_clients_that_accept_gzip,
    document_with_a_matching_etag_is_not_sent_again,
}

fn root_redirects_to_the_documentation(server: TestServer) {
    let anonymous = server.anonymous();
    let root = anonymous.get("/");
    assert_eq!((root.status, root.header("location")), (307, Some("/docs")));
    let docs = anonymous.get("/docs");
    assert_eq!(
        (docs.status, docs.header("location")),
        (307, Some("/docs/"))
    );
}

fn documentation_page_and_its_assets_come_from_this_server(server: TestServer) {
    let anonymous = server.anonymous();
    let page = anonymous.get("/docs/");
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    let mut assets = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in page.body.split(attribute).skip(1) {
            let asset = rest.split('"').next().unwrap();
            assert!(!asset.contains("//"), "{asset} is on another server");
            let reply = anonymous.get(&format!("/docs/{}", asset.trim_start_matches("./")));
            assert_eq!(reply.status, 200, "{asset}");
            assert!(!reply.body.is_empty(), "{asset}");
            assets += 1;
        }
    }
    assert!(assets >= 4, "{assets} assets");
    let setup = anonymous.get("/docs/swagger-initializer.js");
    assert!(setup.body.contains("/openapi.json"), "{}", setup.body);
    assert!(
        !setup.body.contains("http://") && !setup.body.contains("https://"),
        "{}",
        setup.body
    );
}

fn served_openapi_document_is_the_committed_one(server: TestServer) {
    let reply = server.anonymous().get("/openapi.json");
    assert_eq!(reply.status, 200);
    let committed = std::fs::read_to_string("openapi/openapi.json").unwrap();
    let committed: serde_json::Value = serde_json::from_str(&committed).unwrap();
    assert_eq!(reply.json(), committed);
}

/// The style sets the colours of the logo. When this test was written, a browser's reports on every element and
/// script were checked. Another version of Swagger UI needs this check again.
fn only_style_in_a_script_is_allowed_by_its_digest(server: TestServer) {
    use sha2::{Digest as _, Sha256};
    let page = server.anonymous().get("/docs/");
    assert!(!page.body.contains("<style") && !page.body.contains("style="));
    let inline = page.body.split("<script").skip(1);
    for script in inline {
        let content = script.split_once('>').unwrap().1;
        assert!(content.split_once("</script>").unwrap().0.trim().is_empty());
    }
    let script = server
        .anonymous()
        .get("/docs/swagger-ui-standalone-preset.js");
    let mut styles = script.body.split("createElement(\"style\",null,\"").skip(1);
    let style = styles.next().unwrap().split('"').next().unwrap();
    assert_eq!(styles.next(), None);
    let digest = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, Sha256::digest(style));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.contains(&format!("style-src 'self' 'sha256-{digest}';")),
        "{style}"
    );
}

const DOCUMENTS: [&str; 4] = [
    "/openapi.json",
    "/docs/",
    "/docs/swagger-initializer.js",
    "/docs/swagger-ui-bundle.js",
];

/// Returns the header section and the bytes of the body of the response to these request headers.
fn get(server: &TestServer, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n"
    )
    .unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let end = response.windows(4).position(|part| part == b"\r\n\r\n");
    let body = response.split_off(end.unwrap() + 4);
    (String::from_utf8(response).unwrap(), body)
}

fn field<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = headers.lines().filter_map(|line| line.split_once(": "));
    fields.find(|field| field.0 == name).map(|field| field.1)
}

fn document_is_compressed_for_clients_that_accept_gzip(server: TestServer) {
    for path in DOCUMENTS {
        let (plain_headers, plain) = get(&server, path, "");
        assert!(
            plain_headers.starts_with("HTTP/1.1 200 "),
            "{plain_headers}"
        );
        assert_eq!(field(&plain_headers, "content-encoding"), None);
        for (accepted, is_compressed) in [
            ("gzip, deflate, br", true),
            ("*", true),
            ("br, GZIP;q=0.5", true),
            ("br", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.5, identity", false),
        ] {
            let (headers, body) = get(&server, path, &format!("accept-encoding: {accepted}\r\n"));
            let encoding = field(&headers, "content-encoding");
            assert_eq!(
                encoding,
                is_compressed.then_some("gzip"),
                "{path} {accepted}"
            );
            let mut read = Vec::new();
            if is_compressed {
                GzDecoder::new(&body[..]).read_to_end(&mut read).unwrap();
            } else {
                read.clone_from(&body);
            }
            assert!(read == plain, "{path} {accepted}");
            let same_tag = field(&headers, "etag") == field(&plain_headers, "etag");
            assert_eq!(same_tag, !is_compressed, "{path} {accepted}");
            assert_eq!(field(&headers, "vary"), Some("accept-encoding"));
            assert_eq!(field(&headers, "cache-control"), Some("no-cache"));
            assert_eq!(
                field(&headers, "content-type"),
                field(&plain_headers, "content-type")
            );
        }
    }
    let head = server.anonymous().send("HEAD", "/openapi.json", "");
    let (_, plain) = get(&server, "/openapi.json", "");
    let length = plain.len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
}

fn document_with_a_matching_etag_is_not_sent_again(server: TestServer) {
    for path in DOCUMENTS {
        for encoding in ["", "accept-encoding: gzip\r\n"] {
            let (headers, _) = get(&server, path, encoding);
            let tag = field(&headers, "etag").unwrap();
            assert!(
                tag.starts_with('"') && tag.ends_with('"') && tag.len() > 16,
                "{tag}"
            );
            for etags in [tag.to_owned(), format!("\"x\", W/{tag}"), "*".into()] {
                let headers = format!("{encoding}if-none-match: {etags}\r\n");
                let (headers, body) = get(&server, path, &headers);
                assert!(headers.starts_with("HTTP/1.1 304 "), "{etags}: {headers}");
                assert_eq!(body, b"");
                assert_eq!(field(&headers, "etag"), Some(tag));
                assert_eq!(field(&headers, "vary"), Some("accept-encoding"));
                assert_eq!(field(&headers, "cache-control"), Some("no-cache"));
            }
            let other = format!("{encoding}if-none-match: \"x\"\r\n");
            let (headers, body) = get(&server, path, &other);
            assert!(headers.starts_with("HTTP/1.1 200 ") && !body.is_empty());
        }
    }
}
