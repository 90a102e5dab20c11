//! HTTP clients: anonymous, with the token of an account, with an API key.

use std::time::Duration;

use serde_json::Value;

/// HTTP client of one server that sends the same headers with each request.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    headers: Vec<(String, String)>,
}

/// A complete HTTP response.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: String,
}

impl Client {
    pub fn new(base: impl Into<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(60)))
            .build();
        Self {
            agent: config.into(),
            base: base.into(),
            headers: Vec::new(),
        }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the value of a header that the client sends.
    pub fn header(&self, name: &str) -> String {
        let header = self.headers.iter().find(|header| header.0 == name);
        header.expect("the header").1.clone()
    }

    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    pub fn with_token(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    pub fn with_key(&self, key: &str) -> Self {
        self.with("x-api-key", key)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "")
    }

    pub fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, "")
    }

    /// Sends POST without a body.
    pub fn post(&self, path: &str) -> Reply {
        self.send("POST", path, "")
    }

    pub fn post_json(&self, path: &str, body: &Value) -> Reply {
        self.with("content-type", "application/json")
            .send("POST", path, body.to_string())
    }

    pub fn patch_json(&self, path: &str, body: &Value) -> Reply {
        self.with("content-type", "application/merge-patch+json")
            .send("PATCH", path, body.to_string())
    }

    pub fn put_json(&self, path: &str, body: &Value) -> Reply {
        self.with("content-type", "application/json")
            .send("PUT", path, body.to_string())
    }

    pub fn send(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.try_send(method, path, body).expect("a response")
    }

    /// Sends a request. Returns `None` if there is no complete response.
    pub fn try_send(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Option<Reply> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(body.as_ref().to_vec()).expect("a request");
        let mut response = self.agent.run(request).ok()?;
        let body = response.body_mut().read_to_vec().ok()?;
        Some(Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Creates an account with this address and [`PASSWORD`], and logs it in.
    pub fn sign_up(&self, email: &str) -> Self {
        let credentials = serde_json::json!({"email": email, "password": PASSWORD});
        let reply = self.post_json("/auth/signup", &credentials);
        assert_eq!(reply.status, 201, "{reply:?}");
        self.log_in(email, PASSWORD)
    }

    pub fn log_in(&self, email: &str, password: &str) -> Self {
        let credentials = serde_json::json!({"email": email, "password": password});
        let reply = self.post_json("/auth/login", &credentials);
        assert_eq!(reply.status, 200, "{reply:?}");
        self.with_token(reply.text("access_token"))
    }

    /// Creates an API key with default settings.
    pub fn create_key(&self) -> Value {
        self.create_key_with(&serde_json::json!({}))
    }

    /// Creates an API key with these settings.
    #[track_caller]
    pub fn create_key_with(&self, settings: &Value) -> Value {
        let reply = self.post_json("/api-keys", settings);
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.json()
    }

    /// Changes the account with this id. The client has to be an operator.
    pub fn change_user(&self, id: &str, body: &Value) -> Reply {
        self.patch_json(&format!("/admin/users/{id}"), body)
    }

    /// Creates or changes a role. The client has to be an operator.
    pub fn put_role(&self, name: &str, permissions: &[&str]) -> Reply {
        let body = serde_json::json!({"permissions": permissions});
        self.put_json(&format!("/admin/roles/{name}"), &body)
    }

    /// Returns the id of the client's own account.
    pub fn id(&self) -> String {
        self.get("/auth/me").text("id").to_owned()
    }
}

/// Every permission that a role can have.
pub const PERMISSIONS: [&str; 7] = [
    "users:read",
    "users:write",
    "keys:read",
    "keys:write",
    "audit:read",
    "usage:read",
    "roles:write",
];

/// Default password of the accounts in tests.
pub const PASSWORD: &str = "correct horse battery staple";

/// Returns the path of a key in the API.
pub fn path_of(key: &Value) -> String {
    format!("/api-keys/{}", key["id"].as_str().expect("an id"))
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Returns a string member of the JSON response.
    pub fn text(&self, member: &str) -> &str {
        let text = self.body.split(&format!("\"{member}\":\"")).nth(1);
        let text = text.and_then(|rest| rest.split('"').next());
        text.unwrap_or_else(|| panic!("no {member} in {self:?}"))
    }

    /// Returns the target of the next page of a list, from the `Link` header.
    pub fn next_page(&self) -> Option<String> {
        let (target, parameters) = self.header("link")?.strip_prefix('<')?.split_once('>')?;
        assert_eq!(parameters, "; rel=\"next\"");
        Some(target.to_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Asserts that this is a valid problem response (`application/problem+json`) with this status and code.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{self:?}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"));
        for member in ["title", "detail", "request_id"] {
            let text = problem[member].as_str();
            assert!(
                text.is_some_and(|text| !text.is_empty()),
                "{member}: {self:?}"
            );
        }
        assert_eq!(problem.get("errors").is_some(), status == 422, "{self:?}");
        assert_eq!(self.header("www-authenticate").is_some(), status == 401);
        let retry_after = self.header("retry-after").map(str::parse::<u64>);
        match status {
            429 | 503 => assert!(matches!(retry_after, Some(Ok(1..))), "{self:?}"),
            _ => assert_eq!(retry_after, None),
        }
        problem
    }
}
