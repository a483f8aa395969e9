//! Pickles, whole and damaged.

use numformer_testkit::cases;
use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Pickle {
    Pickle::read(bytes).expect("a pickle")
}

// The pickles here were written by pickle.dumps of Python 3.11, with the given protocol.

#[test]
fn plain_data_is_read_in_every_binary_protocol() {
    // {'a': 1, 'b': [True, None, -3, 300, 70000], 'c': (0.5,), 'd': 'x', 'e': 2**40, 'f': -(2**33)}
    let protocol_2 = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01X\x01\x00\x00\x00bq\x02]q\x03(\x88NJ\xfd\xff\
        \xff\xffM,\x01Jp\x11\x01\x00eX\x01\x00\x00\x00cq\x04G?\xe0\x00\x00\x00\x00\x00\x00\x85q\x05X\x01\x00\x00\
        \x00dq\x06X\x01\x00\x00\x00xq\x07X\x01\x00\x00\x00eq\x08\x8a\x06\x00\x00\x00\x00\x00\x01X\x01\x00\x00\
        \x00fq\x09\x8a\x05\x00\x00\x00\x00\xfeu.";
    let protocol_4 = b"\x80\x04\x95P\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94K\x01\x8c\x01b\x94]\x94(\x88NJ\
        \xfd\xff\xff\xffM,\x01Jp\x11\x01\x00e\x8c\x01c\x94G?\xe0\x00\x00\x00\x00\x00\x00\x85\x94\x8c\x01d\x94\
        \x8c\x01x\x94\x8c\x01e\x94\x8a\x06\x00\x00\x00\x00\x00\x01\x8c\x01f\x94\x8a\x05\x00\x00\x00\x00\xfeu.";
    for bytes in [&protocol_2[..], protocol_4] {
        let pickle = read(bytes);
        let root = pickle.root();
        let described = |name: &str| pickle.describe(pickle.entry(root, name).expect(name));
        assert_eq!(
            ["a", "c", "d", "e", "f"].map(described),
            ["1", "a sequence of 1", "x", "1099511627776", "-8589934592"]
        );
        let list = pickle.as_sequence(pickle.entry(root, "b").expect("b")).expect("a list");
        assert_eq!(list.iter().map(|id| pickle.describe(*id)).collect::<Vec<_>>().join(" "), "True None -3 300 70000");
    }
}

#[test]
fn attributes_of_a_namespace_are_entries() {
    // argparse.Namespace(lr=3, on=False), protocols 2 and 4
    let protocol_2 = b"\x80\x02cargparse\nNamespace\nq\x00)\x81q\x01}q\x02(X\x02\x00\x00\x00lrq\x03K\x03X\x02\x00\
        \x00\x00onq\x04\x89ub.";
    let protocol_4 = b"\x80\x04\x954\x00\x00\x00\x00\x00\x00\x00\x8c\x08argparse\x94\x8c\tNamespace\x94\x93\x94)\x81\
        \x94}\x94(\x8c\x02lr\x94K\x03\x8c\x02on\x94\x89ub.";
    for bytes in [&protocol_2[..], protocol_4] {
        let pickle = read(bytes);
        let entry = |name| pickle.entry(pickle.root(), name);
        assert_eq!(entry("lr").and_then(|id| pickle.as_usize(id)), Some(3));
        assert_eq!(entry("on").and_then(|id| pickle.as_bool(id)), Some(false));
        assert_eq!(entry("off"), None);
        assert_eq!(pickle.describe(pickle.root()), "a argparse.Namespace");
    }
}

#[test]
fn calls_are_noted_and_not_made() {
    // What os.system('true') looks like to a reader that would run it.
    let pickle = read(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.");
    let (callable, arguments) = pickle.as_call(pickle.root()).expect("a call");
    assert_eq!(pickle.as_global(callable), Some(("os", "system")));
    assert_eq!(pickle.as_text(arguments[0]), Some("true"));
}

#[test]
fn what_is_shared_is_changed_for_all() {
    // d = {}; [d, d] with d['k'] = 5 set after it was noted.
    let pickle = read(b"\x80\x02]q\x00(}q\x01h\x01X\x01\x00\x00\x00kK\x05se.");
    let items = pickle.as_sequence(pickle.root()).expect("a list");
    assert_eq!(items[0], items[1]);
    assert_eq!(pickle.entry(items[0], "k").and_then(|id| pickle.as_usize(id)), Some(5));
}

#[test]
fn sharing_costs_no_memory() {
    // A list of twice the same list, 60 times over: 2^60 entries if copied.
    let mut bytes = b"\x80\x02]".to_vec();
    for _ in 0..60 {
        bytes.extend(b"2\x86");
    }
    bytes.push(b'.');
    assert_eq!(read(&bytes).values.len(), 61);
}

/// A long text that names a class a million times over is stored once.
#[test]
fn names_are_shared_too() {
    let mut bytes = b"\x80\x04X\x00\x00\x01\x00".to_vec();
    bytes.extend([b'a'; 1 << 16]);
    bytes.extend(b"q\x000");
    for _ in 0..100_000 {
        bytes.extend(b"h\x00h\x00\x93");
    }
    bytes.push(b'.');
    let pickle = read(&bytes);
    let texts = pickle.values.iter().filter(|value| matches!(value, Value::Text(_))).count();
    assert_eq!((texts, pickle.values.len()), (1, 100_001));
    assert_eq!(pickle.as_global(pickle.root()).expect("a class").1.len(), 1 << 16);
}

#[test]
fn a_pickle_of_endless_instructions_is_refused() {
    let bytes = vec![b'N'; MAX_INSTRUCTIONS + 1];
    let expected = PickleError::TooLong { limit: MAX_INSTRUCTIONS };
    assert_eq!(Pickle::read(&bytes).expect_err("too long"), expected);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let error = |bytes: &[u8]| Pickle::read(bytes).expect_err("no pickle").to_string();
    assert_eq!(error(b""), "the pickle is cut: expected more than 0 bytes");
    assert_eq!(error(b"X\xff\xff\xff\xffab"), "the pickle is cut: expected more than 7 bytes");
    assert_eq!(error(b"cos\nsystem"), "the pickle is cut: expected more than 10 bytes");
    assert!(error(b"\x80\x02I12\n.").starts_with("unsupported pickle opcode 0x49 at byte 2: load the file"));
    assert_eq!(error(b"."), "the pickle is damaged at byte 0: expected a value on the stack");
    assert_eq!(error(b"N(\x85."), "the pickle is damaged at byte 2: expected more values on the stack");
    assert_eq!(error(b"N0t."), "the pickle is damaged at byte 2: expected a mark");
    assert_eq!(error(b"}(NNNu."), "the pickle is damaged at byte 5: expected a value for every key");
    assert_eq!(error(b"h\x07."), "the pickle is damaged at byte 0: expected a value that was noted before");
    assert_eq!(error(b"X\x01\x00\x00\x00\xff."), "the pickle is damaged at byte 0: expected text in UTF-8");
    assert_eq!(error(b"NNb."), "the pickle is damaged at byte 2: expected an object for its state");
    assert_eq!(error(b"NNa."), "the pickle is damaged at byte 2: expected a list to append to");
    assert_eq!(error(b"NNNs."), "the pickle is damaged at byte 3: expected a dictionary for its entries");
    assert_eq!(error(b"NN\x93."), "the pickle is damaged at byte 2: expected two texts for the name of a class");
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Pickle::read(&bytes);
    }

    #[test]
    fn no_sequence_of_opcodes_makes_it_panic(opcodes in prop::collection::vec(
        prop::sample::select(b"N)]}(.0122tldaeesubRQqh\x85\x86\x87\x88\x81\x93\x94\x00\x01".to_vec()), 0..200,
    )) {
        if let Ok(pickle) = Pickle::read(&opcodes) {
            pickle.describe(pickle.root());
            pickle.entry(pickle.root(), "x");
        }
    }
}
