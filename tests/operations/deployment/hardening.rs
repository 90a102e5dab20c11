//! Hardening of the containers, and the time they have for a shutdown.

use super::{Compose, Help, compose::strings, seconds};

#[test]
fn containers_have_a_read_only_root_and_no_capabilities() {
    for (name, service) in Compose::read().services() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name}");
        let options = strings(&service["security_opt"]);
        assert!(options.contains(&"no-new-privileges:true"), "{name}");
        for forbidden in ["privileged", "cap_add", "pid", "network_mode", "devices"] {
            assert!(service[forbidden].is_null(), "{name}: {forbidden}");
        }
        assert!(
            service["logging"]["options"]["max-size"].is_string(),
            "{name}"
        );
    }
}

/// Third-party images start as root by default; the image of latchkey does not.
#[test]
fn containers_do_not_run_as_root() {
    let compose = Compose::read();
    let ours = compose.instances();
    for (name, service) in compose.services().filter(|(name, _)| !ours.contains(name)) {
        let user = service["user"].as_str().expect(name);
        assert!(
            !user.starts_with("root") && !user.starts_with('0'),
            "{name}"
        );
    }
}

#[test]
fn stop_grace_period_exceeds_shutdown_seconds() {
    let (compose, help) = (Compose::read(), Help::read());
    for instance in compose.instances() {
        let settings = compose.environment(instance);
        let stop = settings.get("SHUTDOWN_SECONDS").map(|text| seconds(text));
        let stop = stop.unwrap_or_else(|| help.default_seconds("SHUTDOWN_SECONDS"));
        let grace_period = compose.service(instance)["stop_grace_period"]
            .as_str()
            .unwrap();
        assert!(
            seconds(grace_period) >= stop + 5,
            "{instance}: {grace_period}"
        );
    }
}

#[test]
fn containers_have_a_health_check() {
    for (name, service) in Compose::read().services() {
        let check = &service["healthcheck"];
        assert_eq!(
            strings(&check["test"])[0],
            "CMD",
            "{name}: the check must not need a shell"
        );
        for time in ["interval", "timeout", "start_period"] {
            assert!(seconds(check[time].as_str().expect(time)) > 0, "{name}");
        }
    }
}
