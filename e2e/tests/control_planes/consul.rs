//! Consul alone: which rights it takes, and what reaches the snapshot.

use std::fs;

use portcullis_e2e::report::say;
use portcullis_e2e::sidecar::{Sidecar, command};
use portcullis_e2e::synced::wait_for;
use portcullis_policy::{Snapshot, Verdict};
use serde_json::json;

use crate::setup::{Ground, PATIENCE, intention, line, shipped, verdict};

/// One entry of every kind that a token may not see, so that there is something to hide.
async fn fill(ground: &Ground) {
    ground.intend("db", "web", "allow").await;
    ground.write(&json!({"Kind": "service-defaults", "Name": "db", "Protocol": "http"})).await;
    let local = json!({"JWKS": "eyJrZXlzIjpbXX0="});
    ground
        .write(&json!({"Kind": "jwt-provider", "Name": "okta", "Issuer": "i", "JSONWebKeySet": {"Local": local}}))
        .await;
    let limits = json!({"Kind": "rate-limits", "Name": "db", "Limits": [{"Name": "all", "Key": ["source"], "Rate": {"Requests": 5, "Period": "1s"}}]});
    ground.registry.put("/v1/kv/portcullis/policy/limits", &limits).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_rights_suffice_and_of_one_that_lacks_the_list_and_the_right_are_named() {
    let Some(ground) = Ground::start().await else { return };
    fill(&ground).await;
    let rules = shipped();
    let named = [
        ("consul: service-intentions: ", "intentions = \"read\""),
        ("consul: jwt-provider: ", "mesh = \"read\""),
        ("consul: keys portcullis/policy/: ", "key_prefix with policy = \"read\""),
    ];
    // The last one is said not to be needed.
    assert_eq!(rules.len(), named.len() + 1, "{rules:?}");
    for (place, (list, right)) in named.into_iter().enumerate() {
        let mut less = rules.clone();
        let without = less.remove(place);
        ground.grant(&format!("less-{place}"), &less).await;
        let layout = ground.layout(&format!("less-{place}"), &json!({"policy": ground.policy()}));
        let sidecar = Sidecar::launch(&ground.sidecar, &layout).unwrap();
        let said = line(&sidecar, list).await;
        assert!(said.contains(right), "without {without}: {said}");
        assert!(!layout.snapshot().exists(), "published without {without}");
        // A look in time finds the same.
        let output = command(&ground.sidecar, &layout, &["check", "-c", layout.configuration().to_str().unwrap()]);
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(list), "{output:?}");
        // Mended under way.
        ground.grant("shipped", &rules).await;
        wait_for("the snapshot", PATIENCE, async || layout.snapshot().exists()).await;
    }
    for place in [None, Some(rules.len() - 1)] {
        let mut enough = rules.clone();
        if let Some(place) = place {
            enough.remove(place);
        }
        ground.grant(&format!("enough-{}", place.is_some()), &enough).await;
        let layout = ground.layout(&format!("enough-{}", place.is_some()), &json!({"policy": ground.policy()}));
        let sidecar = Sidecar::start(&ground.sidecar, &layout).await.unwrap();
        assert_eq!(verdict(&layout.snapshot(), "web", "db"), Some(Verdict::Allow));
        assert_eq!(verdict(&layout.snapshot(), "other", "db"), Some(Verdict::Deny));
        let log = sidecar.log().unwrap();
        assert!(!log.contains("ERROR") || log.contains("jwt-provider/okta"), "{log}");
        assert!(!log.contains("lacks permission"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_consul_is_doubted_files_go_first_and_a_rotated_root_is_trusted() {
    let Some(mut ground) = Ground::start().await else { return };
    ground.intend("db", "web", "allow").await;
    ground.intend("api", "web", "deny").await;
    let mut policy = ground.policy();
    policy["directory"] = json!("./policy");
    let layout = ground.layout("one", &json!({"policy": policy}));
    fs::write(layout.policy().join("api.json"), intention("api", "web", "allow").to_string()).unwrap();
    let sidecar = Sidecar::start(&ground.sidecar, &layout).await.unwrap();
    let snapshot = layout.snapshot();
    let seen = |source: &str, destination: &str| verdict(&snapshot, source, destination);

    let configuration = layout.configuration();
    let configuration = configuration.to_str().unwrap();

    // The files' word counts, and what it hides is told by whoever is asked.
    assert_eq!((seen("web", "db"), seen("web", "api")), (Some(Verdict::Allow), Some(Verdict::Allow)));
    let hidden = "service-intentions/api: consul says otherwise than";
    let said = line(&sidecar, hidden).await;
    assert!(said.contains("that hides a deny of `web`"), "{said}");
    let check = command(&ground.sidecar, &layout, &["check", "-c", configuration]).unwrap();
    assert!(String::from_utf8_lossy(&check.stderr).contains(hidden), "{check:?}");
    let explain = [
        "explain",
        "-c",
        configuration,
        "--source",
        &portcullis_e2e::certificates::spiffe("web"),
        "--destination",
        "db",
    ];
    assert_eq!(command(&ground.sidecar, &layout, &explain).unwrap().status.code(), Some(0));
    fs::remove_file(layout.policy().join("api.json")).unwrap();
    wait_for("Consul's word", PATIENCE, async || seen("web", "api") == Some(Verdict::Deny)).await;

    // Roots: those of Consul, and of a rotation both.
    let roots = |domain: &str| {
        let snapshot = Snapshot::open(fs::read(&snapshot).unwrap()).unwrap();
        snapshot.roots(domain).unwrap().map_or(0, |roots| roots.len())
    };
    let domain = ground.registry.get("/v1/connect/ca/roots").await.unwrap()["TrustDomain"].as_str().unwrap().to_owned();
    assert_eq!(roots(&domain), 1);
    let rotate = json!({"Provider": "consul", "Config": {"PrivateKeyType": "ec", "PrivateKeyBits": 384}});
    // It is answered by nothing at all.
    let _ = ground.registry.put("/v1/connect/ca/configuration", &rotate).await;
    let took = wait_for("the new root", PATIENCE, async || roots(&domain) == 2).await;
    say(&format!("a rotated root is trusted after {took:?}"));

    // It comes back without its data: nothing of what was denied is let pass, nothing of what was allowed is lost.
    ground.registry.kill();
    ground.registry.wipe().unwrap();
    ground.registry.resume().await.unwrap();
    ground.grant("shipped", &shipped()).await;
    line(&sidecar, "entries are gone at once").await;
    let kept = || (seen("web", "db"), seen("web", "api"), seen("other", "db"), roots(&domain));
    assert_eq!(kept(), (Some(Verdict::Allow), Some(Verdict::Deny), Some(Verdict::Deny), 2));
    ground.intend("db", "other", "allow").await;
    ground.intend("api", "web", "deny").await;
    wait_for("the restored entries", PATIENCE, async || seen("other", "db") == Some(Verdict::Allow)).await;
    assert_eq!(seen("web", "api"), Some(Verdict::Deny));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_before_every_source_was_read_and_what_is_there_stays() {
    let Some(mut ground) = Ground::start().await else { return };
    ground.intend("db", "web", "allow").await;
    let layout = ground.layout("one", &json!({"policy": ground.policy()}));
    drop(Sidecar::start(&ground.sidecar, &layout).await.unwrap());
    let before = fs::read(layout.snapshot()).unwrap();
    ground.registry.kill();
    // Files alone would not let anybody in.
    let mut policy = ground.policy();
    policy["directory"] = json!("./policy");
    layout.write_configuration_with(&json!({"policy": policy})).unwrap();
    let sidecar = Sidecar::launch(&ground.sidecar, &layout).unwrap();
    line(&sidecar, "consul: service-intentions: ").await;
    fs::write(layout.policy().join("x.json"), intention("x", "web", "allow").to_string()).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(fs::read(layout.snapshot()).unwrap() == before, "published without Consul");
    ground.registry.resume().await.unwrap();
    wait_for("both", PATIENCE, async || verdict(&layout.snapshot(), "web", "x") == Some(Verdict::Allow)).await;
    assert_eq!(verdict(&layout.snapshot(), "web", "db"), Some(Verdict::Allow));
    line(&sidecar, "no longer: consul: service-intentions: ").await;
}
