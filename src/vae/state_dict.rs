//! State dicts of other programs: their names for a model's tensors, and the settings they do not store.

use super::{Config, ConfigBuilder, Likelihood};
use crate::error::{Error, Result};
use crate::layers::activation::Activation;
use crate::loss::Prior;

/// Names of a model's tensors in a state dict, with the activation and the likelihood, which names and
/// shapes do not determine.
///
/// A state dict holds weights `[out, in]` and biases `[out]` and nothing else.
/// [`Vae::load`](super::Vae::load) knows the two layouts that are built in by their names;
/// [`Vae::load_as`](super::Vae::load_as) and [`Vae::save_as`](super::Vae::save_as) take any. A prefix that all
/// names have in common, such as the `module.` of a data-parallel or the `_orig_mod.` of a compiled module, is
/// ignored.
///
/// | here | [`classic`](Self::classic) | [`pythae`](Self::pythae) |
/// |---|---|---|
/// | `encoder.0` | `fc1` | `encoder.layers.0.0` |
/// | `mu` | `fc21` | `encoder.embedding` |
/// | `logvar` | `fc22` | `encoder.log_var` |
/// | `decoder.0` | `fc3` | `decoder.layers.0.0` |
/// | `decoder.1` | `fc4` | `decoder.layers.1.0` |
///
/// ```
/// use elbo::vae::{Config, Naming, Vae};
///
/// let own = Naming::new([("encoder.0", "enc.net.0"), ("mu", "enc.mean"), ("logvar", "enc.logvar"),
///     ("decoder.0", "dec.net.0"), ("decoder.1", "dec.net.2")])?
///     .activation("gelu".parse()?);
/// let config = Config::builder(12, 2).hidden(&[8]).activation("gelu".parse()?).build()?;
/// # let path = std::env::temp_dir().join(format!("elbo-doc-naming-{}", std::process::id()));
/// let vae = Vae::new(config, 1);
/// vae.save_as(&path, &own)?;
/// assert_eq!(Vae::load_as(&path, &own)?.parameters()[..], vae.parameters()[..]);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), elbo::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Naming {
    /// For messages.
    pub(crate) layout: &'static str,
    /// Names here and there, of tensors or of layers; empty where they are the same.
    names: Vec<(String, String)>,
    activation: Activation,
    likelihood: Likelihood,
    /// The width of hidden layers, where it is the layout's own.
    hidden: Option<usize>,
    /// Set if a condition may follow x and z.
    conditions: bool,
}

const CLASSIC: [(&str, &str); 5] = [
    ("encoder.0", "fc1"),
    ("mu", "fc21"),
    ("logvar", "fc22"),
    ("decoder.0", "fc3"),
    ("decoder.1", "fc4"),
];

const PYTHAE: [(&str, &str); 5] = [
    ("encoder.0", "encoder.layers.0.0"),
    ("mu", "encoder.embedding"),
    ("logvar", "encoder.log_var"),
    ("decoder.0", "decoder.layers.0.0"),
    ("decoder.1", "decoder.layers.1.0"),
];

impl Naming {
    /// The VAE of pytorch/examples: one hidden layer of ReLUs each side, the output a sigmoid.
    #[must_use]
    pub fn classic() -> Self {
        Self::built_in("classic", &CLASSIC)
    }

    /// The networks that pythae's `VAE` has if it is given none (`Encoder_VAE_MLP` and
    /// `Decoder_AE_MLP`): one hidden layer of 512 ReLUs each side, the output a sigmoid.
    ///
    /// pythae's default loss is `½(σ(l) − t)²`, which no [`Likelihood`] here is. Such a model is read
    /// as [`Likelihood::Bernoulli`], the one with that output, and pythae's own
    /// `reconstruction_loss="bce"`: codes, reconstructions and samples are the same; a loss computed
    /// here, or training that goes on here, is that of the Bernoulli likelihood.
    #[must_use]
    pub fn pythae() -> Self {
        Self { hidden: Some(512), ..Self::built_in("pythae", &PYTHAE) }
    }

    fn built_in(layout: &'static str, names: &[(&str, &str)]) -> Self {
        let names =
            names.iter().map(|&(here, there)| (here.to_owned(), there.to_owned())).collect();
        Self { layout, names, conditions: false, ..Self::own() }
    }

    /// The names of this crate.
    pub(crate) fn own() -> Self {
        Self {
            layout: "elbo",
            names: Vec::new(),
            activation: Activation::Relu,
            likelihood: Likelihood::Bernoulli,
            hidden: None,
            conditions: true,
        }
    }

    /// A layout of one's own, from pairs of a name here and the name there, each of a tensor
    /// (`likelihood.logvar`) or of a layer, for its `.weight` and `.bias` (`encoder.0`, `mu`,
    /// `encoder_norm.0`). Without any pair the names are those of this crate. ReLU and
    /// Bernoulli unless [`Self::activation`] and [`Self::likelihood`] say otherwise.
    ///
    /// # Errors
    /// [`Error::Config`] if a name, here or there, stands in two pairs.
    pub fn new<H: Into<String>, T: Into<String>>(
        names: impl IntoIterator<Item = (H, T)>,
    ) -> Result<Self> {
        let names: Vec<(String, String)> =
            names.into_iter().map(|(here, there)| (here.into(), there.into())).collect();
        for (i, (here, there)) in names.iter().enumerate() {
            for (other_here, other_there) in &names[..i] {
                if here == other_here || there == other_there {
                    let expected = "each name once";
                    let found = format!("{other_here} = {other_there} and {here} = {there}");
                    return Err(Error::config("names", expected, found));
                }
            }
        }
        Ok(Self { layout: "mapped", names, ..Self::own() })
    }

    /// Sets the activation of the hidden layers.
    #[must_use]
    pub fn activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// Sets the likelihood.
    #[must_use]
    pub fn likelihood(self, likelihood: Likelihood) -> Self {
        Self { likelihood, ..self }
    }

    /// Recognizes the layout of a state dict by the names of its tensors: without a prefix, with a common one, or,
    /// for an error that names the tensor, with a prefix of some of them.
    pub(crate) fn of(names: &[&str]) -> Self {
        let plain = |naming: &Self| naming.prefix(names).is_some_and(str::is_empty);
        let prefixed = |naming: &Self| naming.prefix(names).is_some();
        let similar = |naming: &Self| {
            naming
                .tensor("mu.weight")
                .is_some_and(|mu| names.iter().any(|name| name.ends_with(&mu)))
        };
        let layouts = || [Self::classic(), Self::pythae(), Self::own()].into_iter();
        let found = layouts().find(plain).or_else(|| layouts().find(prefixed));
        found.or_else(|| layouts().find(similar)).unwrap_or_else(Self::own)
    }

    /// Prefix that all tensors of a state dict of this layout have in common, such as `module.`; `None` if it is
    /// not of this layout.
    pub(crate) fn prefix<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        let mu = self.tensor("mu.weight")?;
        let prefixes = names.iter().filter_map(|name| name.strip_suffix(&mu[..]));
        let common = |prefix: &&str| names.iter().all(|name| name.starts_with(prefix));
        prefixes.filter(common).min_by_key(|prefix| prefix.len())
    }

    /// The name there of a tensor of this crate, such as `mu.weight`.
    pub(crate) fn tensor(&self, own: &str) -> Option<String> {
        let there = |name: &str| self.names.iter().find(|(here, _)| here == name).map(|(_, t)| t);
        if self.names.is_empty() {
            return Some(own.to_owned());
        }
        if let Some(name) = there(own) {
            return Some(name.clone());
        }
        let (layer, tensor) = own.rsplit_once('.')?;
        Some(format!("{}.{tensor}", there(layer)?))
    }

    /// Returns the reason if it names a tensor that the model does not have.
    pub(crate) fn expect_use(
        &self,
        tensors: &[String],
        config: &Config,
    ) -> std::result::Result<(), String> {
        let of = |name: &str, tensor: &String| {
            tensor == name || tensor.rsplit_once('.').is_some_and(|(layer, _)| layer == name)
        };
        let mut names = self.names.iter().map(|(here, _)| here);
        match names.find(|name| !tensors.iter().any(|tensor| of(name, tensor))) {
            Some(name) => Err(format!("`{name}` is not a layer or tensor of the model {config}")),
            None => Ok(()),
        }
    }

    /// Completes the configuration of a state dict of this layout.
    pub(crate) fn complete(&self, widths: ConfigBuilder) -> ConfigBuilder {
        widths.activation(self.activation).likelihood(self.likelihood)
    }

    /// Returns the reason if a state dict of this layout cannot express a model.
    pub(crate) fn express(&self, config: &Config) -> std::result::Result<(), String> {
        let layout = self.layout;
        let refuse = |there: String, here: String| {
            Err(format!("the layout {layout} has {there}, the model {config} has {here}"))
        };
        let hidden = || config.encoder().iter().chain(config.decoder());
        let outputs = [self.likelihood, config.likelihood()].map(Likelihood::output);
        if hidden().next().is_some() && config.activation() != self.activation {
            return refuse(format!("{} layers", self.activation), config.activation().to_string());
        }
        if outputs[0] != outputs[1] {
            return refuse(
                format!("an output that is {}", outputs[0]),
                format!("one that is {} ({})", outputs[1], config.likelihood().name()),
            );
        }
        if config.conditions() > 0 && !self.conditions {
            return refuse("no conditions".to_owned(), format!("{}", config.conditions()));
        }
        if let Some([low, high]) = config.logvar_clamp() {
            return refuse("no clamp of logvar".to_owned(), format!("one to {low} … {high}"));
        }
        let prior = config.prior();
        if prior != Prior::default() {
            let prior = format!("N({}, {}²)", prior.mean, prior.std);
            return refuse("the prior N(0, 1)".to_owned(), prior);
        }
        if let Some(width) = self.hidden
            && hidden().any(|&n| n != width)
        {
            return refuse(format!("hidden layers of {width}"), "others".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_tensors_by_their_own_name_or_their_layer() {
        let naming =
            Naming::new([("mu", "a"), ("mu.bias", "b"), ("likelihood.logvar", "v")]).unwrap();
        let name = |own| naming.tensor(own);
        assert_eq!(name("mu.weight").as_deref(), Some("a.weight"));
        assert_eq!(name("mu.bias").as_deref(), Some("b"));
        assert_eq!(name("likelihood.logvar").as_deref(), Some("v"));
        assert_eq!(name("logvar.bias"), None);
        assert_eq!(Naming::own().tensor("logvar.bias").as_deref(), Some("logvar.bias"));
    }

    #[test]
    fn recognizes_layouts_with_a_common_prefix() {
        let classic = ["fc1.weight", "fc21.weight", "fc22.bias"];
        for prefix in ["", "module.", "_orig_mod.", "module._orig_mod.", "vae_"] {
            let names = classic.map(|name| format!("{prefix}{name}"));
            let names = names.each_ref().map(String::as_str);
            let naming = Naming::of(&names);
            assert_eq!((naming.layout, naming.prefix(&names)), ("classic", Some(prefix)));
        }
        let names = ["module.mu.weight", "module.encoder.0.weight"];
        assert_eq!(Naming::of(&names), Naming::own());
        assert_eq!(Naming::own().prefix(&names), Some("module."));
        // A prefix of only some names is none.
        assert_eq!(Naming::classic().prefix(&["module.fc21.weight", "fc1.weight"]), None);
        // Names that a mapping gives in full have no prefix.
        let mapped = Naming::new([("mu", "net.mu"), ("logvar", "net.logvar")]).unwrap();
        assert_eq!(mapped.prefix(&["net.mu.weight", "net.logvar.weight"]), Some(""));
    }

    #[test]
    fn rejects_a_name_in_two_pairs() {
        for second in [("mu", "b"), ("logvar", "a")] {
            let message = Naming::new([("mu", "a"), second]).unwrap_err().to_string();
            assert!(message.starts_with("`names`: expected each name once"), "{message}");
        }
    }

    #[test]
    fn rejects_models_that_a_layout_cannot_express() {
        let plain = || Config::builder(6, 2).hidden(&[512]);
        for naming in [Naming::classic(), Naming::pythae()] {
            naming.express(&plain().build().unwrap()).unwrap();
            // What only training knows is in no state dict.
            naming.express(&plain().dropout(0.5).build().unwrap()).unwrap();
            for (builder, part) in [
                (
                    plain().activation(Activation::Tanh),
                    "relu layers, the model 6-512-2-512-6 has tanh",
                ),
                (plain().likelihood(Likelihood::SquaredError), "a sigmoid, the model"),
                (plain().conditions(3), "no conditions"),
                (plain().logvar_clamp(-5.0, 5.0), "no clamp"),
                (plain().prior(Prior { mean: 1.0, std: 1.0 }), "the prior N(0, 1)"),
            ] {
                let message = naming.express(&builder.build().unwrap()).unwrap_err();
                let start = format!("the layout {} has ", naming.layout);
                assert!(message.starts_with(&start) && message.contains(part), "{message}");
            }
        }
        let narrow = Config::builder(6, 2).hidden(&[400]).build().unwrap();
        Naming::classic().express(&narrow).unwrap();
        assert!(Naming::pythae().express(&narrow).unwrap_err().contains("hidden layers of 512"));
    }
}
