//! Temporary.
use std::time::Duration;
use portcullis_e2e::limits::stand::{Setup, Stand, everybody, guard, host};
use portcullis_e2e::load::{self, Bound, Load};
use portcullis_e2e::parts::Parts;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn profile() {
    let parts = Parts::for_test().unwrap();
    let limit = json!([{"Name": "calls", "Key": ["source"], "Rate": {"Requests": 1_000_000, "Period": "1s", "Burst": 1_000_000}}]);
    let refused = json!([{"Name": "calls", "Key": ["source"], "Rate": {"Requests": 1, "Period": "1h", "Burst": 1}, "Costs": [{"PathPrefix": "/", "Cost": 2}]}]);
    let policy = vec![everybody("none"), everybody("all"), everybody("refused"), json!({"Kind": "rate-limits", "Name": "all", "Limits": limit}), json!({"Kind": "rate-limits", "Name": "refused", "Limits": refused})];
    let stand = Stand::start(&parts, Setup { policy, hosts: ["none", "all", "refused"].map(|n| (n.to_owned(), vec![guard(n)])).to_vec(), sidecar: Some(json!({})), ..Setup::default() }).await.unwrap();
    for connections in [1, 4, 16] {
      for name in ["none", "all", "refused", "none", "all", "refused"] {
        let target = load::Target { headers: stand.caller("web").unwrap(), ..load::Target::get(&stand.client(), &host(name), "/v1/small") };
        let before = stand.traefik.usage().unwrap().cpu;
        let load = Load { connections, rate: None, bound: Bound::Time(Duration::from_secs(2)) };
        let outcome = if std::env::var_os("PPROF").is_some() && connections == 16 {
            let running = load::start(Load { bound: Bound::Time(Duration::from_secs(7)), ..load }, &target);
            let answer = stand.traefik.internal_bytes("/debug/pprof/profile?seconds=5").await.unwrap();
            std::fs::write(format!("/tmp/pprof.{name}"), answer).unwrap();
            running.finish_at_bound().await.unwrap()
        } else { load::run(load, &target).await.unwrap() };
        let cpu = stand.traefik.usage().unwrap().cpu - before;
        eprintln!("{connections} {name}: {:.1} µs, {:?}", cpu.as_secs_f64() * 1e6 / outcome.answered() as f64, outcome.statuses);
      }
    }
}
