//! Parity with the program published with the paper: its checkpoints give the same figures here.
//!
//! The recorded data is described in `tests/golden/README.md`.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, safetensors};
use numformer_fused::{DeviceModel, DeviceStep, FusedStep, Precision};
use numformer_lawt::import_lawt;
use numformer_model::{
    Autodiff, Beam, CrossAttentionQuery, FlatLayout, Hypothesis, Mode, Model, OutputProjection, Padded, Positions,
    Seq2Seq, TokenRows, TrainingStep, Transformer, beam, greedy,
};
use numformer_ops::device::{Accelerator, OptimizerKind};
use numformer_ops::sum_of_squares;
use numformer_store::StoredModel;
use numformer_testkit::assert_close;
use numformer_train::{Adam, Optimizer, Schedule, Update, WarmUp};
use serde::Deserialize;

const CPU: &Device = &Device::Cpu;

/// Longest answer that was recorded, delimiters included.
const MAX_ANSWER: usize = 40;

#[derive(Deserialize)]
struct Figures {
    config: Config,
    vocabulary_size: usize,
    first_words: Vec<String>,
    loss: f64,
    grad_norm: f64,
    adam_losses: Vec<f64>,
    adam_lrs: Vec<f64>,
    parameter_norms_after_10_steps: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Config {
    enc_emb_dim: usize,
    dec_emb_dim: usize,
    n_enc_layers: usize,
    n_dec_layers: usize,
    n_enc_heads: usize,
    n_dec_heads: usize,
    share_inout_emb: bool,
    sinusoidal_embeddings: bool,
}

/// One recorded checkpoint.
struct Recorded {
    name: String,
    path: PathBuf,
    figures: Figures,
    tensors: std::collections::HashMap<String, Tensor>,
}

impl Recorded {
    fn read(path: PathBuf) -> Self {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let figures = serde_json::from_slice(&fs::read(path.join("recorded.json")).unwrap()).unwrap();
        let tensors = safetensors::load(path.join("recorded.safetensors"), CPU).unwrap();
        Self { name, path, figures, tensors }
    }

    /// All that there are.
    fn all() -> Vec<Self> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let further = env::var_os("NUMFORMER_GOLDEN").map(PathBuf::from);
        // Where the test runs on another machine than the one that built it, its own folder is not there.
        let folders = [Some(own), further].into_iter().flatten().filter(|folder| folder.is_dir());
        let mut paths: Vec<PathBuf> = folders
            .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
            .filter(|path| path.join("checkpoint.pth").exists())
            .collect();
        paths.sort();
        assert!(!paths.is_empty());
        paths.into_iter().map(Self::read).collect()
    }

    fn import(&self) -> StoredModel {
        import_lawt(&self.path.join("checkpoint.pth")).unwrap()
    }

    fn model(&self) -> Transformer {
        let Model::Transformer(model) = self.import().model(CPU).unwrap() else { panic!("the reference has no other") };
        model
    }

    fn tokens(&self, name: &str) -> Tokens {
        let ids = self.ids(name);
        Tokens { width: ids[0].len(), ids: ids.concat(), lengths: self.lengths(name) }
    }

    fn padded(&self, name: &str) -> Padded {
        self.tokens(name).rows().padded(CPU).unwrap()
    }

    fn ids(&self, name: &str) -> Vec<Vec<u32>> {
        self.tensors[name].to_dtype(DType::U32).unwrap().to_vec2().unwrap()
    }

    fn lengths(&self, name: &str) -> Vec<u32> {
        self.tensors[&format!("{name}_len")].to_dtype(DType::U32).unwrap().to_vec1().unwrap()
    }
}

/// A recorded batch, with its lengths.
struct Tokens {
    ids: Vec<u32>,
    lengths: Vec<u32>,
    width: usize,
}

impl Tokens {
    fn rows(&self) -> TokenRows<'_> {
        TokenRows { ids: &self.ids, lengths: &self.lengths, width: self.width }
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Asserts that no two entries differ by more than `tolerance` times the largest expected one, plus `noise`.
fn assert_all_close(found: &[f32], expected: &[f32], tolerance: f32, noise: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let error = found.iter().zip(expected).fold(0f32, |error, (a, b)| error.max((a - b).abs()));
    assert!(error <= tolerance * largest + noise, "{what}: error {error:e}, largest entry {largest:e}");
}

/// Our name of a tensor of the reference program, written down a second time on purpose.
fn our_name(theirs: &str) -> String {
    [
        ("position_embeddings", "embedding.positions"),
        ("layer_norm_emb", "embedding.norm"),
        ("embeddings", "embedding.tokens"),
        ("layer_norm15", "cross_attention_norm"),
        ("layer_norm1", "self_attention_norm"),
        ("layer_norm2", "feed_forward_norm"),
        ("ffn.lin1", "feed_forward.up"),
        ("ffn.lin2", "feed_forward.down"),
        ("q_lin", "query"),
        ("k_lin", "key"),
        ("v_lin", "value"),
        ("out_lin", "output"),
        ("decoder.proj.", "projection."),
    ]
    .into_iter()
    .fold(theirs.to_owned(), |name, (theirs, ours)| name.replace(theirs, ours))
}

#[test]
fn sizes_options_and_vocabulary_are_read() {
    for recorded in Recorded::all() {
        let StoredModel { config, vocabulary, .. } = recorded.import();
        let config = config.as_transformer().unwrap();
        let expected = &recorded.figures.config;
        for (found, expected) in [
            (config.encoder.d_model, expected.enc_emb_dim),
            (config.encoder.n_heads, expected.n_enc_heads),
            (config.encoder.n_layers, expected.n_enc_layers),
            (config.decoder.d_model, expected.dec_emb_dim),
            (config.decoder.n_heads, expected.n_dec_heads),
            (config.decoder.n_layers, expected.n_dec_layers),
            (config.max_positions, 4096),
            (vocabulary.len(), recorded.figures.vocabulary_size),
        ] {
            assert_eq!(found, expected, "{}", recorded.name);
        }
        assert_eq!(config.positions == Positions::Sinusoidal, expected.sinusoidal_embeddings);
        assert_eq!(config.output_projection == OutputProjection::Shared, expected.share_inout_emb);
        assert_eq!(config.cross_attention_query, CrossAttentionQuery::LayerInput);
        assert!(vocabulary.symbols().starts_with(&recorded.figures.first_words), "{}", recorded.name);
    }
}

#[test]
fn states_and_logits_agree() {
    for recorded in Recorded::all() {
        let model = recorded.model();
        let memory = model.encode(&recorded.padded("src"), Mode::Evaluate).unwrap();
        let what = format!("{}: encoder states", recorded.name);
        assert_all_close(&values(memory.states()), &values(&recorded.tensors["encoded"]), 1e-5, 0.0, &what);

        let states = model.decode(&memory, &recorded.padded("tgt"), None, Mode::Evaluate).unwrap();
        let logits = model.logits(&states).unwrap();
        let expected = &recorded.tensors["logits"];
        for (row, length) in recorded.lengths("tgt").into_iter().enumerate().take(expected.dim(0).unwrap()) {
            let valid = |logits: &Tensor| values(&logits.get(row).unwrap().narrow(0, 0, length as usize).unwrap());
            let what = format!("{}: logits of row {row}", recorded.name);
            assert_all_close(&valid(&logits), &valid(expected), 1e-5, 0.0, &what);
        }
    }
}

/// A device: a GPU where there is one, else its kernels on the host.
fn device() -> Accelerator {
    let devices = Accelerator::of_this_machine().expect("a GPU, as the environment asks for one");
    devices.last().expect("the host at least")().expect("a C++ compiler: install one, or set CXX")
}

/// All ways to compute a training step, with the weights that they start from.
fn training_steps(stored: &StoredModel) -> Vec<(Box<dyn TrainingStep>, Vec<f32>)> {
    let parameters = stored.parameters(CPU).unwrap();
    let model = Model::new(&stored.config, &parameters.trainable()).unwrap();
    let explicit = FusedStep::new(stored.config.as_transformer().unwrap(), &parameters).unwrap();
    let config = stored.config.as_transformer().unwrap();
    let on_device = DeviceStep::new(config, &parameters, device(), Precision::F32, OptimizerKind::Adam).unwrap();
    let mut weights = vec![0.0; explicit.layout().len()];
    explicit.layout().read(&parameters, &mut weights).unwrap();
    vec![
        (Box::new(Autodiff::new(model, &parameters).unwrap()), weights.clone()),
        (Box::new(explicit), weights.clone()),
        (Box::new(on_device), weights),
    ]
}

#[test]
fn loss_and_gradients_agree() {
    for recorded in Recorded::all() {
        let (figures, imported) = (&recorded.figures, recorded.import());
        let layout = FlatLayout::of(&imported.config).unwrap();
        for (mut step, weights) in training_steps(&imported) {
            let mut gradients = vec![0.0; weights.len()];
            let (src, tgt) = (recorded.tokens("src"), recorded.tokens("tgt"));
            let loss =
                step.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut gradients).unwrap();
            assert_close!(loss, figures.loss, 1e-6, "{}", recorded.name);
            assert_close!(sum_of_squares(&gradients).sqrt(), figures.grad_norm, 1e-5, "{}", recorded.name);

            // Where a gradient is zero but for rounding, as those of the keys' biases are, two programs share no digits.
            let noise = f32::EPSILON * figures.grad_norm as f32;
            let mut compared = 0;
            for (name, expected) in &recorded.tensors {
                let Some(theirs) = name.strip_prefix("grad.") else { continue };
                let ours = our_name(theirs);
                let slot = layout.slots().iter().find(|slot| slot.name() == ours);
                let found = &gradients[slot.unwrap_or_else(|| panic!("{theirs}")).range()];
                assert_all_close(found, &values(expected), 1e-4, noise, &format!("{}: {name}", recorded.name));
                compared += 1;
            }
            assert!(compared > 40, "{compared} gradients in {}", recorded.name);
        }
    }
}

#[test]
fn ten_steps_of_adam_agree() {
    for recorded in Recorded::all() {
        let imported = recorded.import();
        let layout = FlatLayout::of(&imported.config).unwrap();
        for (step, weights) in training_steps(&imported) {
            check_ten_steps(&recorded, &layout, step, weights);
        }
    }
}

fn check_ten_steps(
    recorded: &Recorded,
    layout: &FlatLayout,
    mut training: Box<dyn TrainingStep>,
    mut weights: Vec<f32>,
) {
    let (src, tgt) = (recorded.tokens("src"), recorded.tokens("tgt"));
    let mut gradients = vec![0.0; weights.len()];
    let mut adam = Adam::default();
    adam.begin(layout);
    let schedule = WarmUp::new(1e-3, 5);
    let figures = &recorded.figures;
    for (step, (expected, lr)) in figures.adam_losses.iter().zip(&figures.adam_lrs).enumerate() {
        assert_close!(schedule.lr(step as u64), *lr, 1e-12);
        let found =
            training.loss_and_gradients(&weights, src.rows(), tgt.rows(), Mode::Evaluate, &mut gradients).unwrap();
        assert_close!(found, *expected, 1e-4, "{}: step {step}", recorded.name);
        let scale = (5.0 / sum_of_squares(&gradients).sqrt()).min(1.0);
        adam.update(Update { gradient_scale: scale, ..Update::at(step as u64 + 1, *lr) }, &mut weights, &gradients);
    }
    let mut compared = 0;
    for (theirs, expected) in &figures.parameter_norms_after_10_steps {
        // Sines are no parameters here.
        let Some(slot) = layout.slots().iter().find(|slot| slot.name() == our_name(theirs)) else {
            assert!(theirs.ends_with("position_embeddings.weight"), "{theirs}");
            continue;
        };
        let found = sum_of_squares(&weights[slot.range()]).sqrt();
        assert_close!(found, *expected, 1e-4, "{}: {theirs}", recorded.name);
        compared += 1;
    }
    assert_eq!(compared, layout.slots().len(), "{}", recorded.name);
}

/// Asserts that answers are those recorded under `name`, token for token.
fn assert_answers(recorded: &Recorded, name: &str, delimiter: u32, answers: &[Hypothesis]) {
    let expected = recorded.ids(name).into_iter().zip(recorded.lengths(name));
    assert_eq!(expected.len(), answers.len());
    for (row, (answer, (ids, length))) in answers.iter().zip(expected).enumerate() {
        // The reference closes what is unfinished at the limit.
        let inner = answer.ids.iter().copied().take(MAX_ANSWER - 2);
        let found: Vec<u32> = [delimiter].into_iter().chain(inner).chain([delimiter]).collect();
        assert_eq!(found, ids[..length as usize], "{}: {name}, row {row}", recorded.name);
    }
}

#[test]
fn greedy_answers_agree_token_for_token() {
    for recorded in Recorded::all() {
        let model = recorded.model();
        let answers = greedy(&model, &recorded.padded("src"), MAX_ANSWER).unwrap();
        assert_answers(&recorded, "greedy", model.delimiter_id(), &answers);

        let (imported, device) = (recorded.import(), device());
        let on = device.device().clone();
        let parameters = imported.parameters(&on).unwrap();
        let config = imported.config.as_transformer().unwrap();
        let model = DeviceModel::new(config, &parameters, device, Precision::F32).unwrap();
        let src = recorded.tokens("src").rows().padded(&on).unwrap();
        let answers = greedy(&model, &src, MAX_ANSWER).unwrap();
        assert_answers(&recorded, "greedy", model.delimiter_id(), &answers);
    }
}

#[test]
fn answers_of_beam_search_agree_token_for_token() {
    for recorded in Recorded::all() {
        let model = recorded.model();
        let answers = beam(&model, &recorded.padded("src"), MAX_ANSWER, &Beam::new(3)).unwrap();
        let best: Vec<Hypothesis> = answers.into_iter().map(|mut ranked| ranked.swap_remove(0).hypothesis).collect();
        assert_answers(&recorded, "beam3", model.delimiter_id(), &best);
    }
}

#[test]
fn rows_score_alone_as_in_the_batch() {
    for recorded in Recorded::all() {
        let model = recorded.model();
        let (src, tgt) = (recorded.padded("src"), recorded.padded("tgt"));
        let together = model.losses(&src, &tgt).unwrap();
        let rows = recorded.ids("src").into_iter().zip(recorded.lengths("src"));
        let rows = rows.zip(recorded.ids("tgt").into_iter().zip(recorded.lengths("tgt")));
        let (mut nats, mut tokens) = (0.0, 0);
        for (((src, src_len), (tgt, tgt_len)), together) in rows.zip(together) {
            let alone = |ids: &[u32], length: u32| {
                Padded::new(&ids[..length as usize], &[length], length as usize, CPU).unwrap()
            };
            let alone = model.losses(&alone(&src, src_len), &alone(&tgt, tgt_len)).unwrap()[0];
            assert_close!(f64::from(alone), f64::from(together), 1e-6, "{}", recorded.name);
            nats += f64::from(together) * f64::from(tgt_len - 1);
            tokens += tgt_len - 1;
        }
        assert_close!(nats / f64::from(tokens), recorded.figures.loss, 1e-6, "{}", recorded.name);
    }
}
