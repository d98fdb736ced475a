//! Whatever Consul holds one after the other, whatever crashes in between and whoever else writes: what is ours becomes what is
//! wanted, a second look finds nothing to write, and what is not ours stays as it was.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::{
    config::ToKubernetes,
    desired::{Desired, desired},
    diff::{Act, Change, Of, Present, diff, left},
    object::Marks,
    testing::{config, instance},
};

/// An API server: objects as JSON, versions, and what it adds by itself.
#[derive(Clone, Debug, Default)]
struct Server {
    objects: BTreeMap<(Of, String), Value>,
    version: u64,
}

/// Services by number with their instances: the end of an address, a port, whether it passes.
type Services = Vec<(usize, Vec<(u8, u16, bool)>)>;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    /// Consul holds this: services by number with their instances; then at most so many writes before the sidecar dies.
    Consul(Services, usize),
    /// Somebody makes a Service of this name, or changes or removes what is there.
    Other(usize, Deed),
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Make,
    Select,
    Unlabel,
    Remove,
    EmptySlices,
    RemoveSlices,
}

const NAMES: [&str; 5] = ["db", "web", "a_b", "Cache", "cache"];

fn step() -> impl Strategy<Value = Step> {
    let instances = vec((0..12_u8, prop_oneof![Just(80_u16), Just(81)], any::<bool>()), 0..9);
    let consul = (vec((0..NAMES.len(), instances), 0..5), prop_oneof![0..6_usize, Just(1_000)]);
    let deed = prop_oneof![
        Just(Deed::Make),
        Just(Deed::Select),
        Just(Deed::Unlabel),
        Just(Deed::Remove),
        Just(Deed::EmptySlices),
        Just(Deed::RemoveSlices)
    ];
    prop_oneof![
        3 => consul.prop_map(|(services, writes)| Step::Consul(services, writes)),
        1 => (0..NAMES.len(), deed).prop_map(|(name, deed)| Step::Other(name, deed)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn objects_become_what_is_wanted_and_a_second_look_writes_nothing(
        steps in vec(step(), 1..10), external in any::<bool>(), most in 1..4_usize
    ) {
        let kind = if external { "externalName" } else { "endpoints" };
        let config = config(&format!(r#", "kind": "{kind}", "endpointsPerSlice": {most}, "labels": {{"team": "x"}}"#));
        let marks = Marks::new("east", "consul", &config.labels);
        let (mut server, mut wanted) = (Server::default(), Desired::default());
        for step in steps {
            match step {
                Step::Other(name, deed) => server.other(NAMES[name], deed),
                Step::Consul(services, writes) => {
                    wanted = of_consul(&services, &config);
                    server.reconcile(&wanted, &marks, writes);
                }
            }
        }
        let before = server.foreign(&marks);
        server.reconcile(&wanted, &marks, 1_000);
        // Slices that lost their labels are others' now, and where they stand none of ours can be made.
        let present = server.present(&marks);
        let difference = diff(&wanted, &present, &marks);
        for change in difference.services.values().flatten() {
            let is_blocked = matches!(change.act, Act::Create(_)) && server.objects.contains_key(&(change.kind, change.name.clone()));
            prop_assert!(is_blocked, "{change} is left");
        }
        prop_assert_eq!(server.foreign(&marks), before);
        // Consul's answers may come from another process: all that is known of the objects is in the API server.
        let version = server.version;
        server.reconcile(&wanted, &marks, 1_000);
        prop_assert_eq!(server.version, version);
        for (name, service) in &wanted.services {
            let live = &server.objects.get(&(Of::Service, name.clone())).cloned().unwrap_or_default();
            let is_ours = live["metadata"]["labels"]["portcullis.io/cluster"] == "east";
            prop_assert!(is_ours || difference.taken.contains(name));
            if is_ours {
                prop_assert_eq!(&live["spec"]["selector"], &Value::Null);
                let spec = if external { "externalName" } else { "ports" };
                prop_assert!(!live["spec"][spec].is_null(), "{live}");
            } else {
                let slices = present.slices.keys().filter(|slice| slice.starts_with(&format!("{name}.")));
                prop_assert_eq!(slices.count(), 0, "beside a Service of others");
            }
            prop_assert!(service.slices.values().all(|slice| slice.endpoints.len() <= most));
        }
    }
}

fn of_consul(services: &Services, config: &ToKubernetes) -> Desired {
    let instances = services.iter().flat_map(|(name, places)| {
        let of = |(address, port, passes): &(u8, u16, bool)| {
            let text = if *address % 4 == 3 { format!("2001:db8::{address}") } else { format!("192.0.2.{address}") };
            instance(NAMES[*name], &text, *port, if *passes { "passing" } else { "critical" })
        };
        places.iter().map(of).collect::<Vec<_>>()
    });
    desired(&instances.collect::<Vec<_>>(), &[], "east", config)
}

impl Server {
    /// What the sidecar does until there is nothing to do, or until it has died after so many writes.
    fn reconcile(&mut self, desired: &Desired, marks: &Marks, mut writes: usize) {
        for _ in 0..4 {
            let difference = diff(desired, &self.present(marks), marks);
            for changes in difference.services.into_values() {
                for change in changes {
                    if writes == 0 {
                        return;
                    }
                    writes -= 1;
                    let is_done = self.write(&change);
                    if is_done {
                        assert_eq!(left(&change, desired, &self.present(marks), marks), None);
                    } else if change.kind == Of::Service {
                        break;
                    }
                }
            }
        }
    }

    /// As the keeper sees it: all Services, and slices with our labels.
    fn present(&self, marks: &Marks) -> Present {
        let mut present = Present::default();
        for ((kind, _), object) in &self.objects {
            match kind {
                Of::Service => present.put_service(serde_json::from_value(object.clone()).unwrap(), marks),
                Of::Slice if is_ours(object) => present.put_slice(serde_json::from_value(object.clone()).unwrap()),
                Of::Slice => {}
            }
        }
        present
    }

    fn foreign(&self, _marks: &Marks) -> Vec<Value> {
        self.objects.values().filter(|object| !is_ours(object)).cloned().collect()
    }

    fn write(&mut self, change: &Change) -> bool {
        let key = (change.kind, change.name.clone());
        let present = self.objects.get(&key).cloned();
        self.version += 1;
        let (uid, version) = match &change.act {
            Act::Create(body) => {
                if present.is_some() {
                    self.version -= 1;
                    return false;
                }
                self.put(key, body.clone());
                return true;
            }
            Act::Patch { uid, version, .. } | Act::Delete { uid, version } => (uid, version),
        };
        let present = present.unwrap();
        assert!(is_ours(&present), "{change}");
        assert_eq!(
            (&present["metadata"]["uid"], &present["metadata"]["resourceVersion"]),
            (&json!(uid), &json!(version))
        );
        match &change.act {
            Act::Patch { body, .. } => {
                let mut object = present;
                merge(&mut object, body);
                object["metadata"]["resourceVersion"] = self.version.to_string().into();
                self.objects.insert(key, object);
            }
            _ => drop(self.objects.remove(&key)),
        }
        true
    }

    fn put(&mut self, key: (Of, String), mut object: Value) {
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object["metadata"]["uid"] = format!("u{}", self.version).into();
        object["metadata"]["generation"] = 1.into();
        if key.0 == Of::Service && object["spec"]["type"] != "ExternalName" {
            object["spec"]["clusterIP"] = "10.96.0.1".into();
            if object["spec"]["ports"][0].is_object() {
                object["spec"]["ports"][0]["targetPort"] = object["spec"]["ports"][0]["port"].clone();
            }
        }
        self.objects.insert(key, object);
    }

    fn other(&mut self, name: &str, deed: Deed) {
        self.version += 1;
        let key = (Of::Service, name.to_owned());
        let version = Value::from(self.version.to_string());
        let slices = |(kind, slice): &(Of, String)| *kind == Of::Slice && slice.starts_with(&format!("{name}."));
        match deed {
            Deed::Make if !self.objects.contains_key(&key) => {
                let object = json!({"metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "portcullis"}},
                                    "spec": {"type": "ClusterIP", "ports": [{"port": 1}]}});
                self.put(key, object);
            }
            Deed::Select | Deed::Unlabel => {
                let patch = if matches!(deed, Deed::Select) {
                    json!({"spec": {"selector": {"app": "evil"}}})
                } else {
                    json!({"metadata": {"labels": {"portcullis.io/cluster": null}}})
                };
                if let Some(object) = self.objects.get_mut(&key) {
                    merge(object, &patch);
                    object["metadata"]["resourceVersion"] = version;
                }
            }
            Deed::Remove => drop(self.objects.remove(&key)),
            Deed::RemoveSlices => self.objects.retain(|key, _| !slices(key)),
            Deed::EmptySlices => {
                for (_, object) in self.objects.iter_mut().filter(|(key, _)| slices(key)) {
                    merge(object, &json!({"endpoints": null, "metadata": {"resourceVersion": version}}));
                }
            }
            Deed::Make => {}
        }
    }
}

fn is_ours(object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    labels["app.kubernetes.io/managed-by"] == "portcullis" && labels["portcullis.io/cluster"] == "east"
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}
