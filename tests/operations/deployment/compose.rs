//! compose.yaml: every setting, secret, file and network that it names exists.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Help, dockerfile, make_secrets, path, read};

pub struct Compose {
    file: Value,
}

/// Settings of the official PostgreSQL image that are used.
const OF_POSTGRES: [&str; 3] = ["POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"];
/// Folder of the secrets in a container.
pub const SECRETS: &str = "/run/secrets/";

impl Compose {
    pub fn read() -> Self {
        let file = serde_saphyr::from_str(&read("compose.yaml")).expect("YAML");
        Self { file }
    }

    pub fn services(&self) -> impl Iterator<Item = (&str, &Value)> {
        entries(&self.file["services"])
    }

    /// Returns the names of the services that are built from this repository.
    pub fn instances(&self) -> Vec<&str> {
        let built = self
            .services()
            .filter(|(_, service)| service["build"] != Value::Null);
        built.map(|(name, _)| name).collect()
    }

    pub fn service(&self, name: &str) -> &Value {
        let service = &self.file["services"][name];
        assert!(service.is_object(), "there is no service {name}");
        service
    }

    pub fn environment(&self, service: &str) -> BTreeMap<String, String> {
        let environment = entries(&self.service(service)["environment"]);
        let text = |(name, value): (&str, &Value)| {
            let value = value
                .as_str()
                .unwrap_or_else(|| panic!("{name} is not in quotes"));
            (name.to_owned(), value.to_owned())
        };
        environment.map(text).collect()
    }

    fn address(&self, service: &str) -> &str {
        let address = self.service(service)["networks"]["front"]["ipv4_address"].as_str();
        address.unwrap_or_else(|| panic!("{service} has no fixed address"))
    }
}

pub fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let entries = object.as_object().into_iter().flatten();
    entries.map(|(name, value)| (name.as_str(), value))
}

pub fn strings(list: &Value) -> Vec<&str> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter()
        .map(|item| item.as_str().expect("a string"))
        .collect()
}

/// Returns the items of a list, or the keys of a map.
fn names(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(_) => entries(value).map(|(name, _)| name).collect(),
        _ => strings(value),
    }
}

#[test]
fn compose_runs_two_instances_with_the_same_existing_settings() {
    let (compose, help) = (Compose::read(), Help::read());
    let instances = compose.instances();
    assert_eq!(instances.len(), 2, "{instances:?}");
    let [settings, others] = [0, 1].map(|number| compose.environment(instances[number]));
    assert_eq!(settings, others);
    for name in settings.keys() {
        help.assert_setting(name, "compose.yaml");
    }
    for (service, _) in compose
        .services()
        .filter(|(name, _)| !instances.contains(name))
    {
        for name in compose.environment(service).keys() {
            assert!(OF_POSTGRES.contains(&name.as_str()), "{service}: {name}");
        }
    }
}

#[test]
fn compose_images_have_a_tag_and_latchkey_has_this_version() {
    let compose = Compose::read();
    for (name, service) in compose.services() {
        let image = service["image"].as_str().expect(name);
        let (_, tag) = image.split_once(':').expect(image);
        assert!(!tag.contains("latest"), "{image}");
        if compose.instances().contains(&name) {
            assert_eq!(image, concat!("latchkey:", env!("CARGO_PKG_VERSION")));
            assert!(
                path(service["build"].as_str().unwrap())
                    .join("Dockerfile")
                    .exists()
            );
        }
    }
}

#[test]
fn compose_secrets_are_created_declared_granted_and_used() {
    let compose = Compose::read();
    let folder = tempfile::tempdir().unwrap();
    let made = make_secrets(folder.path());
    let declared: Vec<_> = entries(&compose.file["secrets"]).collect();
    assert_eq!(declared.len(), made.len());
    for (name, secret) in &declared {
        assert!(made.contains_key(*name), "{name} is not made");
        assert_eq!(secret["file"], format!("./secrets/{name}"));
        let given = |(_, service): (&str, &Value)| names(&service["secrets"]).contains(name);
        assert!(compose.services().any(given), "no service gets {name}");
    }
    for (service, definition) in compose.services() {
        let given = names(&definition["secrets"]);
        let environment = compose.environment(service);
        let used: Vec<_> = environment
            .values()
            .filter_map(|v| v.strip_prefix(SECRETS))
            .collect();
        assert_eq!(given.len(), used.len(), "{service}: {given:?}, {used:?}");
        assert!(
            used.iter().all(|name| given.contains(name)),
            "{service}: {used:?}"
        );
        let files = environment
            .keys()
            .filter(|name| name.ends_with("_FILE"))
            .count();
        assert_eq!(files, used.len(), "{service}");
    }
    // compose.yaml itself contains no secret.
    for secret in made.values() {
        assert!(!read("compose.yaml").contains(secret));
    }
    assert!(read(".gitignore").lines().any(|line| line == "/secrets"));
}

#[test]
fn generated_database_url_names_the_compose_database() {
    let compose = Compose::read();
    let folder = tempfile::tempdir().unwrap();
    let made = make_secrets(folder.path());
    let postgres = compose.environment("postgres");
    let (user, database) = (&postgres["POSTGRES_USER"], &postgres["POSTGRES_DB"]);
    let password = &made["postgres_password"];
    let expected = format!("postgres://{user}:{password}@postgres:5432/{database}");
    assert_eq!(made["database_url"], expected);
    let redis = &compose.environment(compose.instances()[0])["REDIS_URL"];
    assert!(redis.starts_with("redis://redis:6379"), "{redis}");
}

#[test]
fn compose_volumes_networks_and_dependencies_exist() {
    let compose = Compose::read();
    for (name, service) in compose.services() {
        for mount in strings(&service["volumes"]) {
            let source = mount.split(':').next().unwrap();
            let exists = if source.starts_with('.') {
                path(source).exists()
            } else {
                names(&compose.file["volumes"]).contains(&source)
            };
            assert!(exists, "{name}: {mount}");
        }
        let networks = names(&service["networks"]);
        assert!(!networks.is_empty(), "{name}");
        for network in networks {
            assert!(
                names(&compose.file["networks"]).contains(&network),
                "{name}: {network}"
            );
        }
        for (other, condition) in entries(&service["depends_on"]) {
            assert_eq!(condition["condition"], "service_healthy", "{name}");
            assert!(
                compose.service(other)["healthcheck"].is_object(),
                "{name}: {other}"
            );
        }
    }
    // An instance needs both, so it starts after them.
    for instance in compose.instances() {
        let waits_for = names(&compose.service(instance)["depends_on"]);
        assert_eq!(waits_for, ["postgres", "redis"]);
        let check = strings(&compose.service(instance)["healthcheck"]["test"]);
        assert_eq!(check[..2], ["CMD", dockerfile::PROGRAM]);
        Help::read().assert_command(check[2], "healthcheck");
        // No further argument: the check is of readiness, for which nginx waits.
        assert_eq!(check.len(), 3);
    }
}

#[test]
fn compose_trusts_only_nginx_and_gives_it_the_instance_addresses() {
    let compose = Compose::read();
    let nginx = compose.service("nginx");
    let mut hosts = Vec::new();
    for instance in compose.instances() {
        let settings = compose.environment(instance);
        assert_eq!(settings["TRUSTED_PROXIES"], compose.address("nginx"));
        hosts.push(format!("{instance}:{}", compose.address(instance)));
        let server = format!("server {instance}:{}", settings["PORT"]);
        assert!(read("deploy/nginx.conf").contains(&server), "no {server}");
    }
    assert_eq!(strings(&nginx["extra_hosts"]), hosts);
    let subnet = compose.file["networks"]["front"]["ipam"]["config"][0]["subnet"].as_str();
    let network = subnet
        .and_then(|subnet| subnet.strip_suffix("0/24"))
        .expect("a network");
    for service in ["nginx"].into_iter().chain(compose.instances()) {
        assert!(compose.address(service).starts_with(network), "{service}");
    }
    assert_eq!(compose.file["networks"]["back"]["internal"], true);
}

#[test]
fn compose_publishes_only_the_nginx_port_on_loopback() {
    let compose = Compose::read();
    for (name, service) in compose.services() {
        assert_eq!(name == "nginx", service["ports"] != Value::Null, "{name}");
    }
    let nginx = compose.service("nginx");
    let [published] = strings(&nginx["ports"])[..] else {
        panic!("more than one port");
    };
    let port = published.strip_prefix("127.0.0.1:").expect(published);
    let port = port.split(':').nth(1).expect("a port of the container");
    let conf = read("deploy/nginx.conf");
    assert!(conf.contains(&format!("listen {port} ")), "{port}");
    let check = strings(&nginx["healthcheck"]["test"]);
    let address = check.last().unwrap();
    let path = address
        .strip_prefix(&format!("http://127.0.0.1:{port}"))
        .expect(address);
    assert!(conf.contains(&format!("location = {path} ")), "{path}");
}
