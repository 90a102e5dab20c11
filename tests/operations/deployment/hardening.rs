//! What a container may not do, and how long it has to stop.

use super::{Compose, Help, compose::strings, seconds};

#[test]
fn no_container_can_write_its_files_or_gain_rights() {
    for (name, service) in Compose::read().services() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(strings(&service["cap_drop"]), ["ALL"], "{name}");
        let options = strings(&service["security_opt"]);
        assert!(options.contains(&"no-new-privileges:true"), "{name}");
        for refused in ["privileged", "cap_add", "pid", "network_mode", "devices"] {
            assert!(service[refused].is_null(), "{name}: {refused}");
        }
        assert!(
            service["logging"]["options"]["max-size"].is_string(),
            "{name}"
        );
    }
}

/// Those of others start as root where nobody says otherwise; ours does not.
#[test]
fn no_container_runs_as_root() {
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
fn an_instance_is_killed_only_after_it_had_its_time_to_stop() {
    let (compose, help) = (Compose::read(), Help::read());
    for instance in compose.instances() {
        let settings = compose.environment(instance);
        let stop = settings.get("SHUTDOWN_SECONDS").map(|text| seconds(text));
        let stop = stop.unwrap_or_else(|| help.default_seconds("SHUTDOWN_SECONDS"));
        let patience = compose.service(instance)["stop_grace_period"]
            .as_str()
            .unwrap();
        assert!(seconds(patience) >= stop + 5, "{instance}: {patience}");
    }
}

#[test]
fn every_container_says_how_it_is() {
    for (name, service) in Compose::read().services() {
        let check = &service["healthcheck"];
        assert_eq!(
            strings(&check["test"])[0],
            "CMD",
            "{name}: no shell is needed"
        );
        for time in ["interval", "timeout", "start_period"] {
            assert!(seconds(check[time].as_str().expect(time)) > 0, "{name}");
        }
    }
}
