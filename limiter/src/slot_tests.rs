use super::*;
use proptest::prelude::*;

fn slots() -> impl Strategy<Value = Slot> {
    any::<(u8, u8, u16, u32, u64, u64, [u64; 4])>().prop_map(|(kind, flags, class, tag, key, t, words)| Slot {
        kind,
        flags,
        class,
        tag,
        key,
        t,
        words,
    })
}

proptest! {
    #[test]
    fn a_slot_reads_as_it_was_written(slot in slots(), seed: u64) {
        prop_assert_eq!(Slot::decode(&slot.encode(seed), seed), Some(slot));
    }

    #[test]
    fn a_slot_with_any_one_byte_changed_is_none(slot in slots(), seed: u64, by in 1..=u8::MAX) {
        let bytes = slot.encode(seed);
        for at in 0..LEN {
            let mut bent = bytes;
            bent[at] ^= by;
            prop_assert_eq!(Slot::decode(&bent, seed), None, "byte {}", at);
        }
    }

    #[test]
    fn a_slot_of_another_bucket_or_generation_is_none(slot in slots(), bucket in 0..1024u16, generation: u64) {
        let bytes = slot.encode(seed(bucket, generation));
        prop_assert_eq!(Slot::decode(&bytes, seed(bucket ^ 1, generation)), None);
        prop_assert_eq!(Slot::decode(&bytes, seed(bucket, generation ^ 1)), None);
    }

    #[test]
    fn a_label_is_cut_between_characters(text: String) {
        let slot = Slot::label(1, class::RATE, &text);
        let bytes = slot.text();
        let kept = core::str::from_utf8(&bytes).unwrap().trim_end_matches('\0');
        prop_assert!(text.starts_with(kept));
        prop_assert!(kept.len() + 4 > MAX_LABEL_LEN.min(text.trim_end_matches('\0').len()));
        prop_assert_eq!(Slot::decode(&slot.encode(7), 7).unwrap().text(), bytes);
    }
}

#[test]
fn zeros_are_no_slot() {
    for generation in 0..1000 {
        assert_eq!(Slot::decode(&[0; LEN], seed(0, generation)), None);
    }
}
