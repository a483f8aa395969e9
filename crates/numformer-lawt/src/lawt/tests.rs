//! Checkpoints written in the format of the published program.

use std::fs;
use std::path::PathBuf;

use numformer_encoding::{Floating, Positional, encoding_by_name};
use numformer_model::{CrossAttentionQuery, StackConfig, TransformerConfig};
use numformer_testkit::cases;
use proptest::prelude::*;

use crate::pytorch::testing::{Py, PyTensor, write};

use super::*;

/// A checkpoint in which all sizes that can differ do differ. The tests modify it.
struct Fake {
    config: TransformerConfig,
    params: Vec<(&'static str, Py)>,
    tensors: BTreeMap<String, PyTensor>,
    /// Other entries of the checkpoint.
    others: Vec<(Py, Py)>,
    namespace: bool,
    prefix: &'static str,
    dir: tempfile::TempDir,
}

/// A number that depends on the tensor and the index, exact in 16 bits.
fn coefficient(tensor: usize, place: usize) -> f32 {
    ((tensor * 31 + place * 7) % 64) as f32 / 32.0 - 1.0
}

impl Fake {
    fn new() -> Self {
        Self::with_encoder(StackConfig::new(4, 2, 2))
    }

    fn with_encoder(encoder: StackConfig) -> Self {
        let p10 = Positional::p10();
        let vocab_size = Vocabulary::reference(&p10, &p10).len();
        let config = TransformerConfig {
            cross_attention_query: CrossAttentionQuery::LayerInput,
            ..TransformerConfig::new(vocab_size, 6, encoder, StackConfig::new(6, 3, 1))
        };
        let encoder = &config.encoder;
        let sizes = [
            ("enc_emb_dim", encoder.d_model as i64),
            ("dec_emb_dim", 6),
            ("n_enc_layers", encoder.n_layers as i64),
            ("n_dec_layers", 1),
            ("n_enc_heads", 2),
            ("n_dec_heads", 3),
            ("n_words", vocab_size as i64),
            ("eos_index", 0),
            ("pad_index", 1),
            ("env_base_seed", 1 << 40),
        ];
        let mut params: Vec<_> = sizes.into_iter().map(|(name, size)| (name, Py::Int(size))).collect();
        params.extend([
            ("share_inout_emb", Py::Bool(true)),
            ("sinusoidal_embeddings", Py::Bool(false)),
            ("input_encoding", Py::text("float,2,10")),
            ("output_encoding", Py::text("float,2,10")),
            ("operation", Py::text("transpose")),
            ("reload_data", Py::None),
        ]);
        let tensors = Wanted::of(&config).names.into_iter().enumerate().map(|(index, name)| {
            let count = name.shape.iter().product();
            let values: Vec<f32> = (0..count).map(|place| coefficient(index, place)).collect();
            (name.theirs, PyTensor::new(index, &name.shape, &values))
        });
        let mut tensors: BTreeMap<String, PyTensor> = tensors.collect();
        // A shared projection is listed under both names.
        tensors.insert("decoder.proj.weight".to_owned(), tensors["decoder.embeddings.weight"].clone());
        let dir = tempfile::tempdir().expect("dir");
        Self { config, params, tensors, others: Vec::new(), namespace: false, prefix: "", dir }
    }

    fn set(&mut self, name: &str, value: Py) -> &mut Self {
        self.params.iter_mut().find(|(found, _)| *found == name).expect(name).1 = value;
        self
    }

    fn tensor(&mut self, name: &str) -> &mut PyTensor {
        self.tensors.get_mut(name).expect(name)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("checkpoint.pth")
    }

    fn write(&self) {
        let params = self.params.iter().map(|(name, value)| (Py::text(name), value.clone())).collect();
        let params = match self.namespace {
            true => Py::Object(Box::new(Py::Global("argparse", "Namespace")), Vec::new(), params),
            false => Py::Dict(params),
        };
        let half = |half: &str| {
            let own = self.tensors.iter().filter_map(|(name, tensor)| {
                let name = name.strip_prefix(half)?.strip_prefix('.')?;
                Some((Py::text(&format!("{}{name}", self.prefix)), tensor.to_py()))
            });
            let metadata = vec![(Py::text("_metadata"), Py::Dict(Vec::new()))];
            Py::Object(Box::new(Py::Global("collections", "OrderedDict")), own.collect(), metadata)
        };
        let mut entries = vec![(Py::text("epoch"), Py::Int(3)), (Py::text("params"), params)];
        entries.extend(["encoder", "decoder"].map(|name| (Py::text(name), half(name))));
        entries.extend(self.others.iter().cloned());
        let tensors: Vec<PyTensor> = self.tensors.values().cloned().collect();
        write(&self.path(), &Py::Dict(entries).pickle(), &tensors);
    }

    fn import(&self) -> Result<StoredModel, ImportError> {
        self.write();
        import_lawt(&self.path())
    }

    fn error(&self) -> String {
        self.import().expect_err("refused").to_string()
    }
}

#[test]
fn every_weight_comes_under_its_own_name() {
    let fake = Fake::new();
    let model = fake.import().expect("imported");
    assert_eq!(model.config.as_transformer(), Some(&fake.config));
    for (index, name) in Wanted::of(&fake.config).names.into_iter().enumerate() {
        let (shape, values) = &model.weights[&name.ours];
        assert_eq!(*shape, name.shape);
        assert!(values.iter().enumerate().all(|(place, x)| *x == coefficient(index, place)), "{}", name.ours);
    }
    model.model(&candle_core::Device::Cpu).expect("no weight is missing");
    assert_eq!(model.weights.len(), Wanted::of(&fake.config).names.len());
    let counted: usize = model.weights.values().map(|(_, values)| values.len()).sum();
    assert_eq!(counted as u64, model.config.parameter_counts().total());
}

#[test]
fn forms_of_the_same_checkpoint_give_the_same_model() {
    let expected = Fake::new().import().expect("imported");
    let same = |change: &dyn Fn(&mut Fake)| {
        let mut fake = Fake::new();
        change(&mut fake);
        assert_eq!(fake.import().expect("imported"), expected);
    };
    same(&|fake| fake.namespace = true);
    same(&|fake| fake.prefix = "module.");
    same(&|fake| {
        fake.tensors.remove("decoder.proj.weight");
    });
    // A copy of the embedding instead of the embedding itself.
    same(&|fake| fake.tensor("decoder.proj.weight").key = "copy".to_owned());
    // Flags are numbers, and options that have a default are omitted.
    same(&|fake| {
        fake.set("share_inout_emb", Py::Int(1)).set("sinusoidal_embeddings", Py::Int(0));
        fake.params.retain(|(name, _)| !["n_words", "eos_index", "pad_index"].contains(name));
    });
    // The state of the optimizer has its own tensors, some of them integers.
    same(&|fake| {
        let step = PyTensor { class: "LongStorage", ..PyTensor::new(1000, &[1], &[0.0, 0.0]) };
        let state = Py::Dict(vec![(Py::Int(0), Py::Dict(vec![(Py::text("step"), step.to_py())]))]);
        fake.others.push((Py::text("optimizer"), Py::Dict(vec![(Py::text("state"), state)])));
    });
    same(&|fake| {
        let tensor = fake.tensor("decoder.layers.0.cross_attention.k_lin.weight");
        tensor.class = "HalfStorage";
        let values = tensor.bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word));
        tensor.bytes = values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect();
    });
    // Stored column by column.
    same(&|fake| {
        let tensor = fake.tensor("encoder.layers.1.ffn.lin1.weight");
        let [rows, columns] = tensor.shape[..] else { unreachable!("a matrix") };
        let words = tensor.bytes.as_chunks::<4>().0.to_vec();
        let columns_first = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
        tensor.bytes = columns_first.flat_map(|place| words[place]).collect();
        tensor.strides = vec![1, rows];
    });
}

#[test]
fn a_projection_of_its_own_is_kept() {
    let mut fake = Fake::new();
    fake.set("share_inout_emb", Py::Bool(false));
    let (d, vocab_size) = (fake.config.decoder.d_model, fake.config.vocab_size);
    let projection = PyTensor::new(500, &[vocab_size, d], &vec![0.5; d * vocab_size]);
    fake.tensors.insert("decoder.proj.weight".to_owned(), projection);
    let model = fake.import().expect("imported");
    assert_eq!(model.config.as_transformer().expect("a transformer").output_projection, OutputProjection::Separate);
    assert_eq!(model.weights["projection.weight"].1, vec![0.5; d * vocab_size]);
    fake.set("share_inout_emb", Py::Bool(true));
    assert!(fake.error().starts_with("`decoder.proj.weight` differs from `decoder.embeddings.weight`"));
    fake.tensors.remove("decoder.proj.weight");
    fake.set("share_inout_emb", Py::Bool(false));
    assert!(fake.error().ends_with("found no tensor `decoder.proj.weight`"), "{}", fake.error());
}

#[test]
fn sinusoidal_tables_are_checked_and_not_kept() {
    let mut fake = Fake::new();
    fake.set("sinusoidal_embeddings", Py::Bool(true));
    assert!(fake.error().starts_with("tensor `encoder.position_embeddings.weight`: expected the sines"));
    for half in ["encoder", "decoder"] {
        let tensor = fake.tensor(&format!("{half}.position_embeddings.weight"));
        let table = sinusoidal_positions(tensor.shape[0], tensor.shape[1]);
        tensor.bytes = table.iter().flat_map(|x| x.to_le_bytes()).collect();
    }
    let model = fake.import().expect("imported");
    assert_eq!(model.config.as_transformer().expect("a transformer").positions, Positions::Sinusoidal);
    assert!(!model.weights.keys().any(|name| name.contains("positions")));
    fake.tensor("decoder.position_embeddings.weight").bytes[0..4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(fake.error().contains("`decoder.position_embeddings.weight`"));
}

#[test]
fn encodings_have_the_names_of_the_manual() {
    // Sizes of the reference vocabularies, recorded from the published program.
    for (input, output, size) in [
        ("float,2,10", "float,2,10", 338),
        ("float,2,1000", "float,2,1000", 1328),
        ("floatsymbol,2", "floatsymbol,2", 2329),
        ("FP15,2,16", "FP15,2,16", 29_128),
        ("FP15,2,16", "float,2,1000", 30_329),
    ] {
        let [input, output] = [input, output].map(|name| options::encoding(name).expect(name).expect("in range").0);
        assert_eq!(Vocabulary::reference(&*input, &*output).len(), size);
    }
    for (theirs, ours) in [
        ("float,2,10", "p10"),
        ("float,2,1000", "p1000"),
        ("floatsymbol,2", "b1999"),
        ("fp15,2,16", "fp15"),
        ("float,4,100", "positional(base = 100, precision = 5)"),
        ("floatsymbol,1", "balanced(precision = 2)"),
        ("FP15,1,8", "floating(precision = 2, exponents = 8, decimals = 7)"),
    ] {
        let (encoding, name) = options::encoding(theirs).expect("known").expect("in range");
        assert_eq!(name, ours);
        let again = encoding_by_name(ours).expect("our own name");
        assert!(encoding.symbols().starts_with(again.symbols()), "{ours}");
    }
    let (fp15, _) = options::encoding("FP15,2,16").expect("known").expect("in range");
    assert_eq!(fp15.symbols(), numformer_encoding::NumberEncoding::symbols(&Floating::fp15()));
    let (other, _) = options::encoding("float,4,100").expect("known").expect("in range");
    assert_eq!(other.max_word_len(), 1 + 3 + 1);
    for unknown in
        ["", "float", "float,2", "float,2,ten", "float,2,10,3", "floatsymbol", "FP15,2", "fp16,2", "float,-1,10"]
    {
        assert!(options::encoding(unknown).is_none(), "{unknown}");
    }
    assert!(options::encoding("float,2,1").expect("known").is_err());
    assert!(options::encoding("float,4294967295,10").expect("known").is_err());
}

#[test]
fn options_that_cannot_be_run_are_named() {
    let error = |name: &str, value: Py| Fake::new().set(name, value).error();
    assert_eq!(
        error("input_encoding", Py::text("float8,2")),
        "option `input_encoding`: expected `float,PRECISION,BASE`, `floatsymbol,PRECISION` or \
         `FP15,PRECISION,EXPONENTS`, found float8,2"
    );
    assert_eq!(
        error("output_encoding", Py::text("float,99,10")),
        "option `output_encoding`: cannot make the encoding `float,99,10`"
    );
    assert!(error("output_encoding", Py::text("float,2,1000")).starts_with(
        "the encodings `float,2,10` and `float,2,1000` give a vocabulary of 1328 symbols, the embedding has 338 rows"
    ));
    assert_eq!(error("n_enc_heads", Py::text("two")), "option `n_enc_heads`: expected a number, found two");
    assert_eq!(error("n_enc_heads", Py::Int(-2)), "option `n_enc_heads`: expected a number, found -2");
    assert_eq!(error("share_inout_emb", Py::None), "option `share_inout_emb`: expected True or False, found None");
    assert_eq!(error("eos_index", Py::Int(4)), "option `eos_index`: expected 0, found 4");
    assert_eq!(error("pad_index", Py::Int(0)), "option `pad_index`: expected 1, found 0");
    assert!(error("n_enc_heads", Py::Int(3)).contains("d_model must be a multiple of n_heads"));
    assert!(error("n_enc_layers", Py::Int(0)).contains("n_layers must be at least 1"));
    assert!(error("enc_emb_dim", Py::Int(1 << 40)).contains("d_model must be at most"));
    let mut fake = Fake::new();
    fake.params.retain(|(name, _)| *name != "n_dec_layers");
    assert_eq!(fake.error(), "`params` has no `n_dec_layers`: the model's sizes and options must be stored with it");
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let mut fake = Fake::new();
    fake.tensors.remove("encoder.layers.1.layer_norm2.weight");
    let expected = "expected the tensors of the model that `params` describes, found";
    assert_eq!(fake.error(), format!("{expected} no tensor `encoder.layers.1.layer_norm2.weight`"));
    let mut fake = Fake::new();
    let norm = fake.tensors.remove("encoder.layers.1.layer_norm2.weight").expect("in the model");
    fake.tensors.insert("encoder.layers.1.norm2.weight".to_owned(), norm);
    let renamed = "no tensor `encoder.layers.1.layer_norm2.weight`; unknown tensor `encoder.layers.1.norm2.weight`";
    assert_eq!(fake.error(), format!("{expected} {renamed}"));
    let mut fake = Fake::new();
    fake.tensors.insert("decoder.extra".to_owned(), PyTensor::new(900, &[1], &[0.0]));
    assert_eq!(fake.error(), format!("{expected} unknown tensor `decoder.extra`"));
    let mut fake = Fake::new();
    fake.tensor("decoder.proj.bias").bytes[0..4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert_eq!(fake.error(), "tensor `decoder.proj.bias`: expected finite numbers, found others");
    let mut fake = Fake::new();
    fake.set("n_dec_layers", Py::Int(60_000));
    assert_eq!(fake.error(), "the checkpoint has no tensor `decoder.layers.59999.layer_norm2.bias`");
    let mut fake = Fake::new();
    fake.set("n_enc_layers", Py::Int(1));
    assert!(fake.error().contains("found unknown tensors `encoder.layers.1."), "{}", fake.error());
    assert!(fake.error().ends_with("and 13 more"), "{}", fake.error());
    let mut fake = Fake::new();
    fake.set("enc_emb_dim", Py::Int(8));
    assert_eq!(fake.error(), "tensor `encoder.embeddings.weight`: expected shape [338, 8], found [338, 4]");
    let mut fake = Fake::new();
    fake.tensor("decoder.proj.bias").class = "LongStorage";
    let error = fake.import().expect_err("integers");
    assert!(matches!(&error, ImportError::Tensor { name, .. } if name == "decoder.proj.bias"), "{error}");
}

#[test]
fn files_that_are_no_checkpoint_say_what_they_hold() {
    let fake = Fake::new();
    let error = |pickle: &Py| {
        write(&fake.path(), &pickle.pickle(), &[]);
        import_lawt(&fake.path()).expect_err("no checkpoint").to_string()
    };
    assert_eq!(
        error(&Py::Dict(vec![(Py::text("state_dict"), Py::None), (Py::text("epoch"), Py::Int(1))])),
        "the checkpoint has no `params`: expected a checkpoint of the published program, found state_dict, epoch"
    );
    assert!(error(&Py::None).ends_with("found None"));
    let params = (Py::text("params"), Py::Dict(Vec::new()));
    assert!(error(&Py::Dict(vec![params])).starts_with("`params` has no `input_encoding`"));
    assert!(import_lawt(&fake.dir.path().join("missing.pth")).is_err());
}

#[test]
fn overlapping_tensors_do_not_fill_the_memory() {
    // Every matrix of many layers uses the same bytes. The file is small, but the model would be large.
    let mut fake = Fake::with_encoder(StackConfig::new(64, 2, 40));
    let largest = fake.tensors["encoder.embeddings.weight"].clone();
    for (_, tensor) in fake.tensors.iter_mut().filter(|(name, _)| name.starts_with("encoder.layers.")) {
        let PyTensor { shape, strides, .. } = tensor.clone();
        *tensor = PyTensor { shape, strides, ..largest.clone() };
    }
    let error = fake.import().expect_err("refused");
    assert!(matches!(error, ImportError::Overlap { .. }), "{error}");
}

proptest! {
    #![proptest_config(cases(64))]
    #[test]
    fn damaged_files_are_errors(cut in 0.0..1.0, flips in prop::collection::vec((0.0..1.0, 1u8..), 0..4)) {
        let fake = Fake::new();
        fake.write();
        let mut content = fs::read(fake.path()).expect("the file");
        for (place, change) in &flips {
            let place = (place * content.len() as f64) as usize;
            content[place] ^= change;
        }
        if flips.is_empty() {
            content.truncate((cut * content.len() as f64) as usize);
        }
        fs::write(fake.path(), &content).expect("written");
        // A change in bytes that are not read may go unnoticed, but no change may cause a panic.
        let imported = import_lawt(&fake.path());
        if let Ok(model) = imported {
            prop_assert_eq!(model, Fake::new().import().expect("imported"));
        }
    }
}
