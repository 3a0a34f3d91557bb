//! Model files: safetensors, with the tensors of a PyTorch module and the configuration.
//!
//! A file holds f32 tensors, weights `[out, in]` row-major and biases `[out]`, under the names
//! `encoder.0.weight`, `encoder.0.bias`, …, `mu.*`, `logvar.*`, `decoder.0.*`, …, the vectors of
//! [`Parameters::vectors`] under theirs, and the configuration as JSON under the metadata key `elbo`. A file without that key, such as one
//! saved from PyTorch, is read too: the widths are those of its tensors, its names those of this crate
//! or of a [`Naming`].

use super::{Config, Naming, Parameters, Vae};
use crate::error::{Error, Result};
use ndarray::{ArrayView1, ArrayView2};
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorView};
use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The metadata key of everything that is not a tensor.
const KEY: &str = "elbo";

/// The metadata.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Header<T, N> {
    /// Version of this layout of a file, to be raised when an old reader would misread a new
    /// file.
    format: u32,
    config: Config,
    /// State beyond the model: what a checkpoint adds.
    #[serde(skip_serializing_if = "Option::is_none", default = "Option::default")]
    pub(crate) training: Option<T>,
    /// Notes of the program that wrote the file.
    #[serde(skip_serializing_if = "Option::is_none", default = "Option::default")]
    pub(crate) notes: Option<N>,
}

/// The number of the layout alone.
#[derive(serde::Deserialize)]
struct Numbered {
    format: u32,
}

/// Placeholder for state or notes that a reader ignores.
pub(crate) type Nothing = serde::de::IgnoredAny;

/// 2: activations, normalization, conditions, likelihoods, priors. A reader of 1 would take any
/// model for one of ReLUs and a Bernoulli likelihood.
const FORMAT: u32 = 2;

/// The oldest format that is read.
const OLDEST_FORMAT: u32 = 1;

impl Vae {
    /// Writes the model to `path`. It is written to a file beside `path` first, which is then renamed,
    /// so that `path` never holds half a model; file and directory are synced, so that a power cut leaves the old
    /// model or the new one. The same model gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        save::<(), ()>(path.as_ref(), self, None, None, &[])
    }

    /// Writes the model with the caller's notes in the file's metadata, as JSON: the scaling of the data,
    /// for example. [`Self::load`] ignores them, [`Self::load_with`] reads them.
    ///
    /// ```
    /// # use elbo::vae::{Config, Vae};
    /// # let path = std::env::temp_dir().join(format!("elbo-doc-notes-{}", std::process::id()));
    /// let vae = Vae::new(Config::builder(3, 1).hidden(&[4]).build()?, 1);
    /// vae.save_with(&path, &vec!["height", "weight", "age"])?;
    /// let (same, columns): (Vae, Option<Vec<String>>) = Vae::load_with(&path)?;
    /// assert_eq!(same.parameters()[..], vae.parameters()[..]);
    /// assert_eq!(columns.unwrap()[2], "age");
    /// # std::fs::remove_file(&path).unwrap();
    /// # Ok::<(), elbo::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    ///
    /// # Panics
    /// If the notes cannot be written as JSON: a map whose keys are not strings.
    pub fn save_with(&self, path: impl AsRef<Path>, notes: &impl serde::Serialize) -> Result<()> {
        save::<(), _>(path.as_ref(), self, None, Some(notes), &[])
    }

    /// Reads a model from a file that [`Self::save`] wrote, from a checkpoint, or from a state
    /// dict of PyTorch in the safetensors format: of a module with `encoder`, `mu`, `logvar` and
    /// `decoder` as this crate names them, of the classic example ([`Naming::classic`]) or of pythae's
    /// default networks ([`Naming::pythae`]).
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::ModelFile`] if it is not a complete
    /// safetensors file of such a model.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let file = ModelFile::read(path.as_ref())?;
        Ok(file.open::<Nothing, Nothing>()?.vae)
    }

    /// Reads a model and the notes of [`Self::save_with`], `None` if the file has none.
    ///
    /// # Errors
    /// As [`Self::load`]; [`Error::ModelFile`] if the notes are not of type `N`.
    pub fn load_with<N: serde::de::DeserializeOwned>(
        path: impl AsRef<Path>,
    ) -> Result<(Self, Option<N>)> {
        let file = ModelFile::read(path.as_ref())?;
        let Opened { vae, notes, .. } = file.open::<Nothing, N>()?;
        Ok((vae, notes))
    }

    /// Writes the model as a state dict of another layout, for `safetensors.torch.load_file` and
    /// `load_state_dict`. Settings of training alone, such as dropout, are lost.
    ///
    /// # Errors
    /// [`Error::ModelFile`] if the layout cannot express the model, [`Error::Io`] if the file cannot be
    /// written.
    pub fn save_as(&self, path: impl AsRef<Path>, naming: &Naming) -> Result<()> {
        let path = path.as_ref();
        let refuse = |reason| Error::ModelFile { path: path.to_owned(), reason };
        naming.express(&self.config).map_err(refuse)?;
        let mut tensors = stored("", &self.parameters);
        let own: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
        naming.expect_use(&own, &self.config).map_err(refuse)?;
        for tensor in &mut tensors {
            tensor.name = naming.tensor(&tensor.name).ok_or_else(|| {
                let (layout, name, config) = (naming.layout, &tensor.name, &self.config);
                refuse(format!(
                    "the layout {layout} has no name for `{name}` of the model {config}"
                ))
            })?;
        }
        write(path, &tensors, None)
    }

    /// Reads a model from a state dict of this layout. A configuration in the file is ignored.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_as(path: impl AsRef<Path>, naming: &Naming) -> Result<Self> {
        let file = ModelFile::read(path.as_ref())?;
        let tensors = file.tensors(Some(naming))?;
        let config = tensors.infer_config()?;
        tensors.model(config, true)
    }
}

/// A tensor of a file.
struct Stored {
    name: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// All tensors of `parameters`, under `prefix` + their name.
fn stored(prefix: &str, parameters: &Parameters) -> Vec<Stored> {
    fn bytes<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u8> {
        values.into_iter().flat_map(|value| value.to_le_bytes()).collect()
    }
    let vectors = parameters.vectors().map(|name| {
        let vector = parameters.vector(name).expect("a name of its own");
        let (shape, bytes) = (vec![vector.len()], bytes(vector));
        Stored { name: format!("{prefix}{name}"), shape, bytes }
    });
    let layers = parameters.names().flat_map(|name| {
        let weight = parameters.weight(name).expect("a name of its own");
        let bias = parameters.bias(name).expect("a name of its own");
        let of = |tensor: &str| format!("{prefix}{name}.{tensor}");
        let (shape, values) = (weight.shape().to_vec(), bytes(&weight));
        let weight = Stored { name: of("weight"), shape, bytes: values };
        let bias = Stored { name: of("bias"), shape: vec![bias.len()], bytes: bytes(&bias) };
        [weight, bias]
    });
    vectors.chain(layers).collect()
}

/// Writes a file of these tensors and metadata.
fn write(path: &Path, tensors: &[Stored], metadata: Option<String>) -> Result<()> {
    let views = tensors.iter().map(|Stored { name, shape, bytes }| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.expect("as many bytes as the shape says"))
    });
    // One key: a map of several would be written in another order each time.
    let metadata = metadata.map(|header| [(KEY.to_owned(), header)].into_iter().collect());
    let bytes = safetensors::serialize(views, metadata).expect("valid tensors");
    write_whole(path, &bytes).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// Writes a model, and the tensors of `buffers` under `prefix.` + their name.
pub(crate) fn save<T: serde::Serialize, N: serde::Serialize>(
    path: &Path,
    vae: &Vae,
    training: Option<T>,
    notes: Option<N>,
    buffers: &[(&str, &Parameters)],
) -> Result<()> {
    let all = [("", vae.parameters())].into_iter().chain(buffers.iter().copied());
    let tensors: Vec<_> = all.flat_map(|(prefix, parameters)| stored(prefix, parameters)).collect();
    let header = Header { format: FORMAT, config: vae.config().clone(), training, notes };
    let header = serde_json::to_string(&header).expect("plain data, and notes that JSON can hold");
    write(path, &tensors, Some(header))
}

/// Writes to a file beside `path`, then renames it: whoever looks at `path` sees the old file
/// or the new one, never a part.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file's name")
    })?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.part", std::process::id()));
    let beside = path.with_file_name(beside);
    let written = fs::File::create(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| sync_directory_of(path));
    if written.is_err() {
        // What could not be finished is not left behind; that the first error is reported
        // matters more than whether this succeeds.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Makes the new name of a file survive a power cut: a rename changes the directory.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    // A directory may be writable, but not readable.
    let Ok(directory) = fs::File::open(directory.unwrap_or(Path::new("."))) else { return Ok(()) };
    use io::ErrorKind::{InvalidInput, Unsupported};
    match directory.sync_all() {
        // Some file systems sync no directories.
        Err(error) if !matches!(error.kind(), InvalidInput | Unsupported) => Err(error),
        _ => Ok(()),
    }
}

/// Contents of a model file.
pub(crate) struct Opened<'a, T, N> {
    pub(crate) vae: Vae,
    pub(crate) training: Option<T>,
    pub(crate) notes: Option<N>,
    pub(crate) tensors: Tensors<'a>,
}

/// The bytes of a model file.
pub(crate) struct ModelFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl ModelFile {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        match fs::read(&path) {
            Ok(bytes) => Ok(Self { path, bytes }),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    fn error(&self, reason: impl Into<String>) -> Error {
        Error::ModelFile { path: self.path.clone(), reason: reason.into() }
    }

    /// The model, and what else the file holds.
    pub(crate) fn open<T, N>(&self) -> Result<Opened<'_, T, N>>
    where
        T: serde::de::DeserializeOwned,
        N: serde::de::DeserializeOwned,
    {
        let (_, metadata) =
            SafeTensors::read_metadata(&self.bytes).map_err(|error| self.damaged(&error))?;
        let header = self.header::<T, N>(&metadata)?;
        let naming = header.is_some().then(Naming::own);
        let tensors = self.tensors(naming.as_ref())?;
        let (config, training, notes, inferred) = match header {
            Some(header) => (header.config, header.training, header.notes, false),
            None => (tensors.infer_config()?, None, None, true),
        };
        Ok(Opened { vae: tensors.model(config, inferred)?, training, notes, tensors })
    }

    /// Its tensors, under names as given, or as they themselves tell.
    fn tensors(&self, naming: Option<&Naming>) -> Result<Tensors<'_>> {
        let tensors =
            SafeTensors::deserialize(&self.bytes).map_err(|error| self.damaged(&error))?;
        let (naming, prefix) = {
            let names = tensors.names();
            let naming = naming.cloned().unwrap_or_else(|| Naming::of(&names));
            let prefix = naming.prefix(&names).unwrap_or_default().to_owned();
            (naming, prefix)
        };
        Ok(Tensors { file: self, tensors, naming, prefix })
    }

    fn damaged(&self, error: &safetensors::SafeTensorError) -> Error {
        self.error(format!("not a complete safetensors file ({error})"))
    }

    fn header<T, N>(&self, metadata: &Metadata) -> Result<Option<Header<T, N>>>
    where
        T: serde::de::DeserializeOwned,
        N: serde::de::DeserializeOwned,
    {
        let Some(json) = metadata.metadata().as_ref().and_then(|map| map.get(KEY)) else {
            return Ok(None);
        };
        // The number first: a later format may have other fields.
        let wrong = |error| self.error(format!("metadata `{KEY}`: {error}"));
        let Numbered { format } = serde_json::from_str(json).map_err(wrong)?;
        if !(OLDEST_FORMAT..=FORMAT).contains(&format) {
            return Err(self.error(format!(
                "format {format}, this version of elbo reads formats {OLDEST_FORMAT} to {FORMAT}"
            )));
        }
        serde_json::from_str(json).map(Some).map_err(wrong)
    }
}

/// The tensors of a model file.
pub(crate) struct Tensors<'a> {
    file: &'a ModelFile,
    tensors: SafeTensors<'a>,
    naming: Naming,
    /// Prefix of all names in the file, such as `module.`.
    prefix: String,
}

impl Tensors<'_> {
    /// The model of this configuration; where it was inferred, there must be nothing else.
    fn model(&self, config: Config, inferred: bool) -> Result<Vae> {
        let config = config.validate().map_err(|error| self.file.error(error.to_string()))?;
        // The widths may claim more than the file holds: check before allocating.
        let claimed = config.parameters().saturating_mul(size_of::<f32>());
        if claimed > self.file.bytes.len() {
            return Err(self.file.error(format!(
                "a model {config} has {claimed} bytes of weights, the file has {}",
                self.file.bytes.len()
            )));
        }
        config.expect_memory()?;
        let mut parameters = Parameters::zeros(&config);
        self.fill("", &mut parameters)?;
        if inferred {
            // Layers numbered 0, 2, 4, as `nn.Sequential` does, would be a shallower model.
            self.expect_no_others(&config, &parameters)?;
        }
        Ok(Vae { config, parameters })
    }

    /// The name in the file of a tensor of this crate.
    fn name(&self, prefix: &str, own: &str) -> Result<String> {
        let name = self.naming.tensor(own).ok_or_else(|| {
            self.file.error(format!("the layout {} has no name for `{own}`", self.naming.layout))
        })?;
        Ok(format!("{}{prefix}{name}", self.prefix))
    }

    /// Overwrites all layers of `parameters` with the tensors under `prefix` + their name.
    pub(crate) fn fill(&self, prefix: &str, parameters: &mut Parameters) -> Result<()> {
        let names: Vec<String> = parameters.names().map(str::to_owned).collect();
        for name in names {
            let stored = self.name(prefix, &format!("{name}.weight"))?;
            let (shape, weight) = self.tensor(&stored)?;
            let (_, bias) = self.tensor(&self.name(prefix, &format!("{name}.bias"))?)?;
            let &[rows, columns] = &shape[..] else {
                return Err(self.error(&stored, "has two dimensions", &shape));
            };
            let weight = ArrayView2::from_shape((rows, columns), &weight).expect("its own shape");
            let layer = stored.strip_suffix(".weight").unwrap_or(&stored);
            parameters
                .set(&name, weight, ArrayView1::from(&bias))
                .map_err(|error| self.file.error(format!("tensor {layer}: {error}")))?;
        }
        let names: Vec<String> = parameters.vectors().map(str::to_owned).collect();
        for name in names {
            let stored = self.name(prefix, &name)?;
            let (_, values) = self.tensor(&stored)?;
            parameters
                .set_vector(&name, ArrayView1::from(&values))
                .map_err(|error| self.file.error(format!("tensor {stored}: {error}")))?;
        }
        Ok(())
    }

    /// The shape and the values of a tensor.
    fn tensor(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let tensor = self.view(name)?;
        if tensor.dtype() != Dtype::F32 {
            return Err(self.error(name, "is F32", tensor.dtype()));
        }
        let values: Vec<f32> = tensor
            .data()
            .chunks_exact(size_of::<f32>())
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")))
            .collect();
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let value = values[at];
            return Err(self.file.error(format!("tensor `{name}`: element {at} is {value}")));
        }
        Ok((tensor.shape().to_vec(), values))
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        self.tensors.tensor(name).map_err(|_| {
            let names = self.tensors.names();
            let similar = names.into_iter().find(|other| other.ends_with(&format!(".{name}")));
            let similar = similar.map_or_else(String::new, |other| {
                format!(" (there is `{other}`, but a prefix must be common to all tensors)")
            });
            self.file.error(format!(
                "no tensor `{name}`{similar}: not a VAE as this crate saves it, nor a state dict of the \
                 classic example (fc1 … fc4) or of pythae's default networks"
            ))
        })
    }

    /// Returns an error if the file has tensors that are not part of this model.
    fn expect_no_others(&self, config: &Config, parameters: &Parameters) -> Result<()> {
        let layers =
            parameters.names().flat_map(|n| ["weight", "bias"].map(|t| format!("{n}.{t}")));
        let own: Vec<String> = layers.chain(parameters.vectors().map(str::to_owned)).collect();
        let known: Vec<String> =
            own.iter().map(|name| self.name("", name)).collect::<Result<_>>()?;
        let is_known: HashSet<&str> = known.iter().map(String::as_str).collect();
        if let Some(other) = self.tensors.names().into_iter().find(|name| !is_known.contains(name))
        {
            return Err(self.file.error(format!(
                "tensor `{other}` is not part of a model {config}; its tensors are {}",
                known.join(", ")
            )));
        }
        self.naming.expect_use(&own, config).map_err(|reason| self.file.error(reason))
    }

    fn error(&self, name: &str, expected: &str, found: impl std::fmt::Debug) -> Error {
        self.file.error(format!("tensor `{name}`: expected one that {expected}, found {found:?}"))
    }

    /// The configuration of a model whose file has none: the widths from the shapes of its tensors,
    /// the rest from the layout.
    fn infer_config(&self) -> Result<Config> {
        let shape = |own: &str| -> Result<[usize; 2]> {
            let tensor = self.name("", &format!("{own}.weight"))?;
            let view = self.view(&tensor)?;
            <[usize; 2]>::try_from(view.shape())
                .map_err(|_| self.error(&tensor, "has two dimensions", view.shape()))
        };
        let has = |own: &str| {
            let name = self.name("", &format!("{own}.weight"));
            name.is_ok_and(|name| self.tensors.tensor(&name).is_ok())
        };
        let layers = |part: &str| -> Result<Vec<usize>> {
            (0..)
                .map(|i| format!("{part}.{i}"))
                .take_while(|name| has(name))
                .map(|name| shape(&name).map(|[outputs, _]| outputs))
                .collect()
        };
        let [latent, _] = shape("mu")?;
        let encoder = layers("encoder")?;
        let [_, inputs] = shape(if encoder.is_empty() { "mu" } else { "encoder.0" })?;
        // At least this one, or its name is the one to miss.
        shape("decoder.0")?;
        let mut decoder = layers("decoder")?;
        let features = decoder.pop().expect("it has a shape");
        let builder = Config::builder(features, latent)
            .encoder(&encoder)
            .decoder(&decoder)
            // What the encoder sees beside a row.
            .conditions(inputs.saturating_sub(features))
            .layer_norm(has("encoder_norm.0") || has("decoder_norm.0"));
        Ok(self.naming.complete(builder).unchecked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::activation::Activation;
    use crate::vae::{Likelihood, Variance};

    fn folder(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("elbo-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn vae() -> Vae {
        Vae::new(Config::builder(13, 2).encoder(&[7, 5]).decoder(&[6]).build().unwrap(), 3)
    }

    #[test]
    fn loads_what_was_saved() {
        let folder = folder("round-trip");
        let path = folder.join("model.safetensors");
        vae().save(&path).unwrap();
        let loaded = Vae::load(&path).unwrap();
        assert_eq!(loaded.config(), vae().config());
        assert_eq!(loaded.parameters()[..], vae().parameters()[..]);
        // The same bytes again, and nothing else in the folder.
        let bytes = fs::read(&path).unwrap();
        loaded.save(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn rejects_other_formats_by_their_number() {
        let folder = folder("format");
        let path = folder.join("model.safetensors");
        vae().save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap();
        // A later version has fields that this one does not know, under other names.
        for (number, rest) in [(0, "config"), (3, "config"), (3, "kontur")] {
            let other = text
                .replace("\\\"format\\\":2", &format!("\\\"format\\\":{number}"))
                .replace("config", rest);
            assert!(other != text && other.len() == text.len());
            let file = [&bytes[..8], other.as_bytes(), &bytes[8 + header..]].concat();
            fs::write(&path, file).unwrap();
            let message = Vae::load(&path).unwrap_err().to_string();
            let expected = format!("format {number}, this version of elbo reads formats 1 to 2");
            assert!(message.ends_with(&expected), "{message}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn rejects_truncated_files() {
        let folder = folder("cut");
        let path = folder.join("model.safetensors");
        vae().save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for length in (0..bytes.len()).step_by(97) {
            fs::write(&path, &bytes[..length]).unwrap();
            let message = Vae::load(&path).unwrap_err().to_string();
            assert!(
                message.contains("model.safetensors: not a complete safetensors file"),
                "{message}"
            );
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn rejects_widths_beyond_the_file_before_allocating() {
        let folder = folder("claim");
        let path = folder.join("model.safetensors");
        let mut huge = vae();
        huge.config = Config::builder(1_000_000, 2).hidden(&[1_000]).build().unwrap();
        save::<(), ()>(&path, &huge, None, None, &[]).unwrap();
        let message = Vae::load(&path).unwrap_err().to_string();
        assert!(message.contains("bytes of weights, the file has"), "{message}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_thousand_thin_layers_are_saved_and_loaded() {
        let folder = folder("thin");
        let path = folder.join("model.safetensors");
        let build = |layers| Config::builder(1, 1).encoder(&vec![1; layers]).decoder(&[]).build();
        let vae = Vae::new(build(1_000).unwrap(), 1);
        vae.save(&path).unwrap();
        assert_eq!(Vae::load(&path).unwrap().parameters()[..], vae.parameters()[..]);
        // A state dict without a configuration goes through the names once more.
        vae.save_as(&path, &Naming::own()).unwrap();
        assert_eq!(Vae::load(&path).unwrap().config().encoder().len(), 1_000);
        assert!(build(1_001).is_err());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn names_the_first_nan_weight() {
        let folder = folder("nan");
        let path = folder.join("model.safetensors");
        let mut vae = vae();
        let mut weight = vae.parameters().weight("mu").unwrap();
        weight[[1, 2]] = f32::NAN;
        let bias = vae.parameters().bias("mu").unwrap();
        vae.parameters_mut().set("mu", weight.view(), bias.view()).unwrap();
        vae.save(&path).unwrap();
        let message = Vae::load(&path).unwrap_err().to_string();
        assert!(message.ends_with("tensor `mu.weight`: element 7 is NaN"), "{message}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn rejects_tensors_of_another_model() {
        let folder = folder("others");
        let path = folder.join("sequential.safetensors");
        // As `nn.Sequential` numbers linear layers with activations between them.
        let shapes = [
            ("encoder.0", [4, 6]),
            ("encoder.2", [4, 4]),
            ("mu", [2, 4]),
            ("logvar", [2, 4]),
            ("decoder.0", [4, 2]),
            ("decoder.1", [6, 4]),
        ];
        let zeros = [0_u8; 4 * 24];
        let views = shapes.iter().flat_map(|&(name, [n, k])| {
            let weight = TensorView::new(Dtype::F32, vec![n, k], &zeros[..4 * n * k]).unwrap();
            let bias = TensorView::new(Dtype::F32, vec![n], &zeros[..4 * n]).unwrap();
            [(format!("{name}.weight"), weight), (format!("{name}.bias"), bias)]
        });
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let message = Vae::load(&path).unwrap_err().to_string();
        assert!(
            message.contains("encoder.2") && message.contains("is not part of a model"),
            "{message}"
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn conversions_to_other_layouts_and_back_keep_every_byte() {
        let folder = folder("layouts");
        let path = |name: &str| folder.join(name).with_extension("safetensors");
        let mapped = Naming::new([
            ("encoder.0", "enc.net.0"),
            ("encoder.1", "enc.net.2"),
            ("encoder_norm.0", "enc.norm.0"),
            ("encoder_norm.1", "enc.norm.1"),
            ("mu.weight", "to_mean"),
            ("mu.bias", "to_mean_bias"),
            ("logvar", "enc.logvar"),
            ("decoder.0", "dec"),
            ("likelihood.logvar", "log_noise"),
        ])
        .unwrap()
        .activation(Activation::Gelu)
        .likelihood(Likelihood::Gaussian(Variance::PerFeature));
        let wide = Config::builder(6, 2)
            .encoder(&[4, 3])
            .decoder(&[])
            .activation(Activation::Gelu)
            .layer_norm(true)
            .likelihood(Likelihood::Gaussian(Variance::PerFeature))
            .conditions(5);
        for (naming, config, known) in [
            (Naming::classic(), Config::builder(6, 2).hidden(&[4]), true),
            (Naming::pythae(), Config::builder(6, 2).hidden(&[512]), true),
            (mapped, wide, false),
        ] {
            let vae = Vae::new(config.build().unwrap(), 5);
            let [own, other, again] = ["own", "other", "again"].map(path);
            vae.save(&own).unwrap();
            vae.save_as(&other, &naming).unwrap();
            let loaded = Vae::load_as(&other, &naming).unwrap();
            assert_eq!(Vae::load(&other).is_ok(), known);
            loaded.save(&again).unwrap();
            assert_eq!(fs::read(&own).unwrap(), fs::read(&again).unwrap());
            // And the other way round.
            loaded.save_as(&again, &naming).unwrap();
            assert_eq!(fs::read(&other).unwrap(), fs::read(&again).unwrap());
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn rejects_layouts_that_do_not_fit_the_model() {
        let folder = folder("misfit");
        let path = folder.join("model.safetensors");
        let message = vae().save_as(&path, &Naming::classic()).unwrap_err().to_string();
        let expected =
            "the layout classic has no name for `encoder.1.weight` of the model 13-7-5-2-6-13";
        assert!(message.ends_with(expected), "{message}");
        let all = [("encoder.0", "a"), ("mu", "b"), ("logvar", "c"), ("decoder.0", "d")];
        let one = Vae::new(Config::builder(6, 2).encoder(&[4]).decoder(&[]).build().unwrap(), 5);
        let more = Naming::new(all.into_iter().chain([("decoder.1", "e")])).unwrap();
        let message = one.save_as(&path, &more).unwrap_err().to_string();
        assert!(message.contains("`decoder.1` is not a layer or tensor"), "{message}");
        assert!(!path.exists());
        one.save_as(&path, &Naming::new(all).unwrap()).unwrap();
        for (naming, part) in [
            (more, "`decoder.1` is not a layer or tensor of the model 6-4-2-6"),
            (Naming::new(all[1..].to_vec()).unwrap(), "tensor b: `weight`: expected shape [2, 6]"),
            (Naming::new(all[..3].to_vec()).unwrap(), "has no name for `decoder.0.weight`"),
            (Naming::pythae(), "no tensor `encoder.embedding.weight`"),
        ] {
            let message = Vae::load_as(&path, &naming).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
