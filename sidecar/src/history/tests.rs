//! Keeping, going back and holding, on files.

use portcullis_policy::PolicySettings;
use serde_json::json;

use super::*;

fn policy(names: &[&str]) -> Policy {
    let documents: Vec<_> = names
        .iter()
        .map(|name| {
            let entry =
                json!({"Kind": "service-intentions", "Name": name, "Sources": [{"Name": "web", "Action": "allow"}]});
            ((*name).to_owned(), entry)
        })
        .collect();
    portcullis_authoring::read::entries(&documents, PolicySettings::default()).0
}

fn config(folder: &Path, keep: usize) -> SnapshotConfig {
    SnapshotConfig { file: folder.join("policy.snapshot"), keep, keep_megabytes: 64, history: None }
}

fn history(folder: &Path, keep: usize) -> History {
    History::new(&config(folder, keep), Numbers::default())
}

fn published(history: &mut History, names: &[&str]) -> u64 {
    match history.publish(&policy(names)).unwrap() {
        Published::As(generation) => generation,
        Published::Held => panic!("it is pinned"),
    }
}

fn generations(history: &History) -> Vec<u64> {
    history.list().unwrap().iter().map(|kept| kept.generation).collect()
}

/// Whether exactly this policy is in force, whatever its generation.
fn is_in_force(history: &History, names: &[&str]) -> bool {
    history.is_in_force(&policy(names))
}

#[test]
fn the_last_snapshots_are_kept_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = history(folder.path(), 3);
    let all: Vec<u64> = [&["a"][..], &["a", "b"], &["b"], &["c"], &["d"]].map(|it| published(&mut history, it)).into();
    assert_eq!(generations(&history), [all[4], all[3], all[2]]);
    assert_eq!(history.in_force(), Some(all[4]));
    history.keep_bytes = 0;
    let last = published(&mut history, &["e"]);
    assert_eq!(generations(&history), [last], "the newest stays");
    let foreign = history.folder.join("12.snapshot");
    fs::write(&foreign, "no snapshot").unwrap();
    fs::write(history.folder.join("x.snapshot"), "").unwrap();
    assert_eq!(generations(&history), [last]);
}

#[test]
fn a_restart_that_changes_nothing_pushes_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    let first = published(&mut history(folder.path(), 3), &["a"]);
    for _ in 0..5 {
        published(&mut history(folder.path(), 3), &["b"]);
    }
    let kept = generations(&history(folder.path(), 3));
    assert_eq!((kept.len(), kept[1]), (2, first));
}

#[test]
fn a_rollback_is_the_old_content_under_a_higher_generation_and_holds_until_it_is_unpinned() {
    let folder = tempfile::tempdir().unwrap();
    let mut sidecar = history(folder.path(), 10);
    let all: Vec<u64> = [["a"], ["b"], ["c"]].iter().map(|it| published(&mut sidecar, it)).collect();
    let person = history(folder.path(), 10);
    let (to, new) = person.roll_back(None).unwrap();
    assert!(to == all[1] && new > all[2]);
    assert!(is_in_force(&person, &["b"]));
    assert!(sidecar.is_pinned());
    assert_eq!(sidecar.publish(&policy(&["d"])).unwrap(), Published::Held);
    assert!(is_in_force(&person, &["b"]), "what is pinned stays");
    // Once more, and to a certain one.
    assert_eq!(person.roll_back(None).unwrap().0, all[0]);
    assert!(is_in_force(&person, &["a"]) && person.roll_back(None).is_err());
    let (_, newest) = person.roll_back(Some(all[2])).unwrap();
    assert!(newest > new && is_in_force(&person, &["c"]));
    assert!(matches!(person.roll_back(Some(7)), Err(HistoryError::Nothing(_))));
    // A wiped tmpfs comes back to what is pinned.
    fs::remove_file(&sidecar.file).unwrap();
    assert_eq!(sidecar.publish(&policy(&["d"])).unwrap(), Published::Held);
    assert!(is_in_force(&person, &["c"]) && person.in_force().unwrap() > 0);
    assert!(person.unpin().unwrap() && !person.unpin().unwrap());
    assert!(!sidecar.is_pinned());
    published(&mut sidecar, &["d"]);
    assert!(is_in_force(&person, &["d"]));
}

#[test]
fn a_broken_snapshot_is_not_gone_back_to_and_a_broken_pin_holds() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = history(folder.path(), 10);
    let first = published(&mut history, &["a", "b", "c"]);
    let second = published(&mut history, &["b"]);
    let path = history.folder.join(format!("{first}.snapshot"));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    let before = fs::read(&history.file).unwrap();
    assert!(
        matches!(history.roll_back(Some(first)), Err(HistoryError::Unusable { generation, .. }) if generation == first)
    );
    assert_eq!((fs::read(&history.file).unwrap(), history.in_force()), (before, Some(second)));
    assert_eq!(history.pinned(), Pinned::No, "a rollback that failed holds nothing");
    fs::write(history.folder.join("pin"), "{").unwrap();
    assert_eq!(history.pinned(), Pinned::Unreadable);
    assert_eq!(history.publish(&policy(&["d"])).unwrap(), Published::Held);
    assert!(is_in_force(&history, &["b"]) && history.unpin().unwrap());
}

#[test]
fn the_same_policy_reissued_is_what_compiling_it_would_have_given() {
    let policy = policy(&["a", "b", "c"]);
    let (old, _) = compile(&policy, 5, 6);
    let snapshot = Snapshot::open(old.as_slice()).unwrap();
    assert_eq!(snapshot.reissue(7, 8).unwrap(), compile(&policy, 7, 8).0);
    let counts = snapshot.counts().unwrap();
    assert_eq!((counts.intentions, counts.providers), (3, 0));
}

#[test]
fn whoever_holds_the_lock_for_ever_stops_nothing_but_publishing() {
    let folder = tempfile::tempdir().unwrap();
    let mut history = history(folder.path(), 3);
    let first = published(&mut history, &["a"]);
    let lock = history.lock().unwrap();
    assert!(history.publish(&policy(&["b"])).is_err());
    assert_eq!(history.in_force(), Some(first));
    drop(lock);
    published(&mut history, &["b"]);
}
