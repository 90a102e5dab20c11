//! Swagger UI, as a browser gets it.

use crate::{on_both_databases, support::TestServer};

on_both_databases! {
    the_root_leads_to_the_documentation,
    the_page_and_all_that_it_loads_come_from_this_server,
    the_document_is_the_committed_one,
    the_only_style_in_a_script_is_known_by_its_digest,
}

fn the_root_leads_to_the_documentation(server: TestServer) {
    let anyone = server.anonymous();
    let root = anyone.get("/");
    assert_eq!((root.status, root.header("location")), (307, Some("/docs")));
    let docs = anyone.get("/docs");
    assert_eq!(
        (docs.status, docs.header("location")),
        (307, Some("/docs/"))
    );
}

fn the_page_and_all_that_it_loads_come_from_this_server(server: TestServer) {
    let anyone = server.anonymous();
    let page = anyone.get("/docs/");
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
            assert!(!asset.contains("//"), "{asset} is somewhere else");
            let reply = anyone.get(&format!("/docs/{}", asset.trim_start_matches("./")));
            assert_eq!(reply.status, 200, "{asset}");
            assert!(!reply.body.is_empty(), "{asset}");
            assets += 1;
        }
    }
    assert!(assets >= 4, "{assets} assets");
    let setup = anyone.get("/docs/swagger-initializer.js");
    assert!(setup.body.contains("/openapi.json"), "{}", setup.body);
    assert!(
        !setup.body.contains("http://") && !setup.body.contains("https://"),
        "{}",
        setup.body
    );
}

fn the_document_is_the_committed_one(server: TestServer) {
    let reply = server.anonymous().get("/openapi.json");
    assert_eq!(reply.status, 200);
    let committed = std::fs::read_to_string("openapi/openapi.json").unwrap();
    let committed: serde_json::Value = serde_json::from_str(&committed).unwrap();
    assert_eq!(reply.json(), committed);
}

/// The colours of the logo. What a browser said of each element and each script was looked at when this was
/// written; another version of Swagger UI has to be looked at again.
fn the_only_style_in_a_script_is_known_by_its_digest(server: TestServer) {
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
