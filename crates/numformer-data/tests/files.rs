//! Data-set files: what is written, what is read back, and what is refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use numformer_data::{
    BatchSource, Dataset, DatasetError, Format, Order, RecordError, Split, Task, write_examples, write_examples_across,
};
use numformer_encoding::Positional;
use numformer_problems::{Addition, Law, Transpose, UniformEntries};
use numformer_testkit::on_ranks;
use rayon::ThreadPoolBuilder;
use tempfile::{TempDir, tempdir};

fn uniform(rows: usize, cols: usize) -> Box<dyn Law> {
    Box::new(UniformEntries::new(rows, cols, 10.0).expect("valid parameters"))
}

fn task() -> Task {
    Task::builder(Arc::new(Positional::p1000()), Arc::new(Positional::p10()))
        .with_problem(Transpose, 1.0, vec![uniform(2, 1), uniform(3, 2)])
        .with_problem(Addition, 1.0, vec![uniform(1, 4)])
        .with_task_letters()
        .build()
        .expect("a task")
}

fn bytes(range: std::ops::Range<u64>, format: Format, threads: usize) -> Vec<u8> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let mut bytes = Vec::new();
    pool.install(|| write_examples(&task(), 7, Split::Test, range, format, &mut bytes)).expect("examples");
    bytes
}

fn file(name: &str, contents: impl AsRef<[u8]>) -> (TempDir, std::path::PathBuf) {
    let dir = tempdir().expect("a directory");
    let path = dir.path().join(name);
    fs::write(&path, contents).expect("a file");
    (dir, path)
}

/// The counts include some that are not multiples of the size of a chunk.
#[test]
fn bytes_do_not_depend_on_threads() {
    for format in Format::ALL {
        for range in [0..0, 5..6, 0..1_000, 1_000..1_700] {
            let alone = bytes(range.clone(), format, 1);
            assert_eq!(bytes(range.clone(), format, 2), alone);
            assert_eq!(bytes(range, format, 5), alone);
        }
    }
}

#[test]
fn ranks_write_the_bytes_of_one() {
    for format in Format::ALL {
        for range in [0..0, 5..6, 0..1_700] {
            let alone = bytes(range.clone(), format, 1);
            for size in [2, 3] {
                let of_ranks = on_ranks(size, |ranks| {
                    let mut bytes = Vec::new();
                    write_examples_across(&task(), 7, Split::Test, range.clone(), format, &mut bytes, &ranks)
                        .map(|_| bytes)
                        .expect("examples")
                });
                assert!(of_ranks.iter().all(|bytes| *bytes == alone), "{format}, {size} ranks");
            }
        }
    }
}

/// A law whose matrices cannot be written.
#[derive(Debug)]
struct Huge;

impl Law for Huge {
    fn sample_into(&self, _rng: &mut dyn rand::RngCore, matrix: &mut faer::Mat<f64>) {
        *matrix = faer::mat![[1e300]];
    }

    fn max_shape(&self) -> (usize, usize) {
        (1, 1)
    }

    fn bound(&self) -> Option<f64> {
        None
    }
}

#[test]
fn a_rank_that_cannot_make_its_examples_tells_the_others() {
    let p10 = Arc::new(Positional::p10());
    let task = Task::new(Transpose, Huge, p10.clone(), p10).expect("a task");
    let failed = on_ranks(2, |ranks| {
        // One example: the first rank has none to make.
        let failed = write_examples_across(&task, 7, Split::Test, 0..1, Format::Tsv, std::io::sink(), &ranks);
        failed.expect_err("it cannot be written").to_string()
    });
    assert_eq!(failed[1], "cannot make example 0");
    assert_eq!(failed[0], "another rank failed: cannot make example 0");
}

#[test]
fn lines_do_not_depend_on_where_the_file_begins() {
    for format in [Format::Tsv, Format::Jsonl] {
        let (whole, part) = (bytes(0..1_500, format, 2), bytes(1_000..1_500, format, 2));
        assert!(whole.ends_with(&part) && !part.is_empty());
    }
}

#[test]
fn values_are_stable() {
    let text = |format| String::from_utf8(bytes(1..2, format, 1)).expect("text");
    let tokens = ["A V1 V4 - 450 E-2 + 755 E-2 + 125 E-2 + 613 E-2", "A V1 V2 - 3 2 6 E-2 + 1 3 7 E-1"];
    assert_eq!(text(Format::Tsv), tokens.join("\t") + "\n");
    let object: serde_json::Value = serde_json::from_str(&text(Format::Jsonl)).expect("JSON");
    let example = task().example(7, Split::Test, 1).expect("an example");
    assert_eq!((&object["index"], &object["problem"]), (&1.into(), &"addition".into()));
    assert_eq!((&object["src_tokens"], &object["tgt_tokens"]), (&tokens[0].into(), &tokens[1].into()));
    let row = |matrix: &faer::Mat<f64>| serde_json::json!([matrix.row(0).iter().copied().collect::<Vec<_>>()]);
    assert_eq!((&object["src"], &object["tgt"]), (&row(&example.input), &row(&example.output)));
}

#[test]
fn files_are_read_back() {
    let task = task();
    for format in Format::ALL {
        let (_dir, path) = file(&format!("set.{format}"), bytes(3..700, format, 2));
        let dataset = Dataset::read(&path, &task).expect("its own file");
        assert_eq!(dataset.len(), 697);
        for index in 0..dataset.len() {
            let example = task.example(7, Split::Test, 3 + index as u64).expect("an example");
            assert_eq!(dataset.example(index), (&example.src[..], &example.tgt[..]));
        }
    }
}

#[test]
fn matrices_of_other_programs_are_read() {
    let line = r#"{"problem": "addition", "src": [[1, 2, 0.5, -3]], "tgt": [[1.5, -1]], "anything": null}"#;
    let (_dir, path) = file("set.jsonl", line);
    let task = task();
    let dataset = Dataset::read(&path, &task).expect("an example");
    let (src, tgt) = dataset.example(0);
    assert_eq!(task.vocabulary().render(src), "<s> A V1 V4 + 100 E-2 + 200 E-2 + 500 E-3 - 300 E-2 <s>");
    assert_eq!(task.vocabulary().render(tgt), "<s> A V1 V2 + 1 5 0 E-2 - 1 0 0 E-2 <s>");
}

#[test]
fn what_is_no_example_is_named_with_its_line() {
    let good = "T V2 V1 + 100 E-2 + 200 E-2\tT V1 V2 + 1 0 0 E-2 + 2 0 0 E-2\n";
    for (line, expected) in [
        ("T V2 V1 + 100 E-2 + 200 E-2", "found 1 fields"),
        ("a\tb\tc", "found 3 fields"),
        ("", "found 1 fields"),
        (
            "T V2 V1 + 100 E-2 + 2000 E-2\tT V1 V1",
            "the source holds a symbol that the task does not use: expected a symbol of the vocabulary at position 7, found `2000`",
        ),
        ("T V2 V1 + 100 E-2 + 200 E-2\tT V1 V2 + 1 0 0 E-2 + 2 0 0", "the target cannot be read: expected "),
        ("V2 V1 + 100 E-2 + 200 E-2\tV1 V2 + 1 0 0 E-2 + 2 0 0 E-2", "expected the task letter `T`"),
        ("T V2 V1 + 100 E-2 + 200 E-2\tT V2 V1 + 1 0 0 E-2 + 2 0 0 E-2", "expected a target of shape 1x2, found 2x1"),
        (
            "T V2 V1 + 100 E-2 + 200 E-2\tT V1 V2 + 1 0 0 E-2 + 2 0 0 E-2 <s> + <pad>",
            "the target cannot be read: expected the end",
        ),
        ("A V1 V3 + 1 E-2 + 2 E-2 + 2 E-2\tA V1 V1 + 1 E-2", "the problem `addition` has no answer"),
        (
            "T V4 V2 + 1 E-2 + 1 E-2 + 1 E-2 + 1 E-2 + 1 E-2 + 1 E-2 + 1 E-2 + 1 E-2\tT V1 V1 + 1 E-2",
            "expected a source of at most 23 tokens, delimiters included, found 29",
        ),
        // Digits of P10 are symbols of P1000, too. The source is also longer than any of the task, but that is not the
        // error.
        (
            "T V2 V2 + 1 0 0 E-2 + 2 0 0 E-2 + 3 0 0 E-2 + 4 0 0 E-2\tT V1 V2 + 1 0 0 E-2 + 2 0 0 E-2",
            "the source cannot be read: expected an exponent at position 5, found `0`",
        ),
    ] {
        let (_dir, path) = file("set.tsv", format!("{good}{line}\n{good}"));
        let error = anyhow::Error::from(Dataset::read(&path, &task()).expect_err(line));
        let message = format!("{error:#}");
        assert!(message.contains("set.tsv, line 2: ") && message.contains(expected), "{line}: {message}");
    }
    for (line, expected) in [
        ("{}", "expected the fields `src_tokens` and `tgt_tokens`, or `src` and `tgt`"),
        ("[1]", "expected a JSON object"),
        (
            r#"{"src": [[1], [2, 3]], "tgt": [[1]], "problem": "transpose"}"#,
            "rows of equal length in the source, found 1 and 2",
        ),
        (r#"{"src": [[1]], "tgt": [[1]]}"#, "expected one of the problems transpose, addition, found none"),
        (r#"{"src": [], "tgt": [[1]], "problem": "transpose"}"#, "cannot be written"),
        (r#"{"src": [[1e300, 1]], "tgt": [[1], [2]], "problem": "transpose"}"#, "cannot be written"),
    ] {
        let (_dir, path) = file("set.jsonl", line);
        let error = anyhow::Error::from(Dataset::read(&path, &task()).expect_err(line));
        let message = format!("{error:#}");
        assert!(message.contains("set.jsonl, line 1: ") && message.contains(expected), "{line}: {message}");
    }
}

/// Text as PowerShell and other programs for Windows write it.
#[test]
fn sets_are_read_whatever_the_encoding_of_the_text() {
    let utf16 =
        |text: &str, bytes: fn(u16) -> [u8; 2]| ("\u{feff}".to_owned() + text).encode_utf16().flat_map(bytes).collect();
    for (name, format) in [("set.tsv", Format::Tsv), ("set.jsonl", Format::Jsonl)] {
        let written = bytes(0..20, format, 1);
        let text = std::str::from_utf8(&written).expect("text").replace('\n', "\r\n");
        let read = |contents: &[u8]| {
            let (_dir, path) = file(name, contents);
            Dataset::read(&path, &task()).expect("a set")
        };
        let expected = read(&written);
        let variants: [Vec<u8>; 3] =
            [format!("\u{feff}{text}").into_bytes(), utf16(&text, u16::to_le_bytes), utf16(&text, u16::to_be_bytes)];
        for contents in variants {
            assert_eq!(read(&contents), expected, "{name}");
        }
    }
    let (_dir, path) = file("set.tsv", b"\xff\xfeT\x00 ");
    let error = anyhow::Error::from(Dataset::read(&path, &task()).expect_err("half a character"));
    assert!(
        format!("{error:#}").ends_with("set.tsv: expected UTF-16, as at the start, found an odd number of bytes"),
        "{error:#}"
    );
}

#[test]
fn files_that_are_no_sets_are_refused() {
    let refused = |name: &str, contents: &[u8]| {
        let (_dir, path) = file(name, contents);
        Dataset::read(&path, &task()).expect_err("no data set")
    };
    assert!(matches!(refused("set.csv", b""), DatasetError::Extension { .. }));
    assert!(matches!(refused("set.tsv", b""), DatasetError::Empty { .. }));
    assert!(matches!(refused("set.tsv", b"\xff\n"), DatasetError::Record { number: 1, .. }));
    assert!(matches!(refused("set.parquet", b"PAR1"), DatasetError::Parquet { .. }));
    let whole = bytes(0..500, Format::Parquet, 1);
    assert!(matches!(refused("set.parquet", &whole[..whole.len() - 9]), DatasetError::Parquet { .. }));
    let endless = vec![b'+'; (16 << 20) + 2];
    assert!(matches!(refused("set.tsv", &endless), DatasetError::Record { source: RecordError::TooLongLine, .. }));
    let missing = Dataset::read(Path::new("missing.tsv"), &task()).expect_err("no file");
    assert_eq!(missing.to_string(), "cannot read missing.tsv");
}

#[test]
fn a_set_is_gone_through_again_and_again() {
    let (_dir, path) = file("set.tsv", bytes(0..10, Format::Tsv, 1));
    let dataset = Arc::new(Dataset::read(&path, &task()).expect("its own file"));
    let rows = |order, batches: std::ops::Range<u64>| -> Vec<Vec<u32>> {
        let source = dataset.batches(4, order);
        let batch = |index| source.batch(index).expect("a batch").src;
        batches.map(batch).flat_map(|rows| (0..4).map(move |i| rows.row(i).to_vec())).collect()
    };
    let as_read = rows(Order::AsRead, 0..5);
    assert_eq!(as_read[..10], as_read[10..]);
    let shuffled = rows(Order::Shuffled(1), 0..5);
    assert_ne!(shuffled[..10], shuffled[10..], "each pass has an order of its own");
    for pass in [&shuffled[..10], &shuffled[10..]] {
        let (mut pass, mut all) = (pass.to_vec(), as_read[..10].to_vec());
        pass.sort();
        all.sort();
        assert_eq!(pass, all);
    }
    assert_ne!(rows(Order::Shuffled(2), 0..5), shuffled);
}

#[test]
fn fingerprints_tell_sets_apart() {
    let fingerprint = |range| {
        let (_dir, path) = file("set.tsv", bytes(range, Format::Tsv, 1));
        Dataset::read(&path, &task()).expect("its own file").fingerprint()
    };
    assert_eq!(fingerprint(0..10), fingerprint(0..10));
    assert_ne!(fingerprint(0..10), fingerprint(1..11));
    assert_ne!(fingerprint(0..10), fingerprint(0..9));
}

/// A flipped byte gives an error or other examples, never a panic that reaches the caller.
#[test]
fn damaged_parquet_is_no_panic() {
    let whole = bytes(0..20, Format::Parquet, 1);
    let task = task();
    let dir = tempdir().expect("a directory");
    let path = dir.path().join("set.parquet");
    for position in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[position] ^= flip;
            fs::write(&path, damaged).expect("a file");
            let _ = Dataset::read(&path, &task);
        }
    }
}
