//! `clientCertificate: verify` behind `RequireAnyClientCert`: Traefik only sees to it that a caller has the key.

use portcullis_e2e::certificates::{Authority, Caller, TRUST_DOMAIN};
use portcullis_e2e::parts::Parts;
use portcullis_e2e::solo::{NOTICED, Setup, Solo, host};
use serde_json::{Value, json};

const AT: &str = "chains";

fn policy(roots: &[&Authority]) -> Vec<Value> {
    let roots: Vec<_> = roots.iter().map(|it| json!({"RootCert": it.pem()})).collect();
    vec![
        json!({"Kind": "ca-roots", "TrustDomain": TRUST_DOMAIN, "Roots": roots}),
        json!({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn where_traefik_takes_any_certificate_only_those_below_the_meshs_root_pass() {
    let Some(parts) = Parts::for_test() else { return };
    let (mesh, same_name) = (Authority::new("mesh").unwrap(), Authority::new("mesh").unwrap());
    let middlewares = [(AT, json!({"clientCertificate": "verify"}))];
    let policy_of_mesh = policy(&[&mesh]);
    let setup =
        Setup { client_authentication: "RequireAnyClientCert", middlewares: &middlewares, policy: &policy_of_mesh };
    let mut gateway = Solo::start(&parts, setup).await.unwrap();
    let web = Caller::named("web");
    let callers = [
        ("web", mesh.client(&web).unwrap(), 200),
        ("another service of the mesh", mesh.client(&Caller::named("other")).unwrap(), 403),
        ("web, signed by itself", Authority::self_signed(&web).unwrap(), 401),
        ("web of another root with the same name", same_name.client(&web).unwrap(), 401),
        ("web of the gateway's own authority", gateway.authority.client(&web).unwrap(), 401),
        ("web, expired", mesh.client(&Caller { expired: true, ..web.clone() }).unwrap(), 401),
    ];
    for (what, identity, status) in &callers {
        let client = gateway.client(Some(identity)).unwrap();
        for _ in 0..2 {
            let answer = client.get(&host(AT), "/v1/items", &[]).await.unwrap();
            assert_eq!(answer.status, *status, "{what}: {}", answer.text());
            if *status == 200 {
                let seen = answer.seen_headers().unwrap();
                assert!(seen.contains(&("x-portcullis-source".to_owned(), "web".to_owned())), "{seen:?}");
                assert!(!seen.iter().any(|(name, _)| name.contains("client-cert")), "{seen:?}");
            }
        }
    }
    // The handshake itself asks for one.
    assert!(gateway.client(None).unwrap().get(&host(AT), "/v1/items", &[]).await.is_err());

    // Another root takes over, without a reload, and whoever was let in before is not any more.
    let reloads = gateway.traefik.reloads().await.unwrap();
    gateway.publish(&policy(&[&same_name])).unwrap();
    tokio::time::sleep(NOTICED).await;
    for (of, status) in [(0, 401), (2, 401), (3, 200)] {
        let client = gateway.client(Some(&callers[of].1)).unwrap();
        assert_eq!(client.get(&host(AT), "/v1/items", &[]).await.unwrap().status, status, "{}", callers[of].0);
    }
    assert_eq!(gateway.traefik.reloads().await.unwrap(), reloads);
}
